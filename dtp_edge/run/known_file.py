"""A file in what a sweep's cells share: the first cell measures, the others read; losing it costs time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dtp_edge.errors import DtpEdgeError
from dtp_edge.files import read_json, write_text

__all__ = ["KnownFile"]

_HINT = "Remove the file: it is measured again."


class KnownFile:
    """`kind` and a digest of all that the numbers depend on name it."""

    def __init__(self, folder: Path, kind: str, run: Mapping[str, Any], *, most_bytes: int) -> None:
        name = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:12]
        self.path, self.most_bytes = folder / f"{kind}-{name}.json", most_bytes

    def read(self) -> dict[str, Any]:
        """Return what is there; {} where nothing is, or what a machine that stopped left."""
        if self.path.is_file():
            with suppress(DtpEdgeError):
                return read_json(self.path, most_bytes=self.most_bytes, hint=_HINT)
        return {}

    def write(self, document: Mapping[str, Any]) -> None:
        """Write it. Several cells at once may: what one lacks is measured again."""
        with suppress(DtpEdgeError):  # a full disk
            write_text(self.path, json.dumps(document))
