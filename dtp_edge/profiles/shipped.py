"""The profiles that come with the package: where they are, and what they are called."""

from __future__ import annotations

from pathlib import Path

from dtp_edge.errors import InputError, nearest
from dtp_edge.profiles.schema import read_profile_json


def list_profiles() -> list[str]:
    """Return the names of the shipped profiles, sorted ("host" is always there besides)."""
    return sorted(p.stem for p in profiles_dir().glob("*.json") if p.name != "schema.json")


def profiles_dir() -> Path:
    """Return the folder of the shipped profiles: inside an installed wheel, or beside the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "hardware_profiles", package.parent / "hardware_profiles"):
        if (folder / "schema.json").is_file():
            return folder
    raise InputError(
        "the shipped device profiles are missing",
        where=str(package / "hardware_profiles"),
        hint="Install dtp_edge again: `pip install --force-reinstall dtp-edge`.",
    )


def nearest_device(text: str, names: list[str]) -> list[str]:
    """Return the profiles of the device whose own name ("Raspberry Pi 4 Model B") is closest to `text`."""
    devices: dict[str, list[str]] = {}
    for name in names:
        document = read_profile_json(profiles_dir() / f"{name}.json")
        devices.setdefault(document["device"]["name"], []).append(name)
    letters = {"".join(c for c in device.lower() if c.isalnum()): device for device in devices}
    return [name for close in nearest(text, letters, 2) for name in devices[letters[close]]][:4]
