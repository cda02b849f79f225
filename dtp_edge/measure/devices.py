"""What may be named as a device: a shipped profile, a file, or this machine."""

from __future__ import annotations

import os

from dtp_edge.profiles.profile import HOST, Profile, read_profile


def load_profile(name_or_path: str | os.PathLike[str] | Profile) -> Profile:
    """Return a profile: a shipped name, a path to a JSON file, or "host" (this machine).

    "host" is measured when it is first needed, and kept. Raises `InputError` for an unknown name (with the
    nearest names), an unreadable or oversized file, or a bad field (with its JSON path).
    """
    if isinstance(name_or_path, Profile):
        return name_or_path
    if os.fspath(name_or_path) == HOST:
        from dtp_edge.measure.host import host_profile  # needs ONNX Runtime, which no other device does

        return host_profile()
    return read_profile(name_or_path)
