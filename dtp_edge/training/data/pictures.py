"""Pictures and masks from disk: ordinary files of a bounded size, in formats that are data only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dtp_edge.errors import InputError
from dtp_edge.files import open_file

HINT = "docs/data.md says how data must lie in the folder, or what the function returns."

# by content; other formats start programs or read further files
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF")
_MOST_BYTES = 2**28  # of one picture's file
_NUMBERED = ("L", "P", "1", "I", "I;16")  # modes of a mask, whose pixels are numbers and not colours
_T = TypeVar("_T")


def read_picture(path: Path) -> Any:
    """Return a picture as RGB, Pillow's. Raises `InputError` that names its file."""
    with _opened(path) as found:
        return found.convert("RGB")


def read_mask(path: Path) -> np.ndarray:
    """Return a mask's numbers, int64 `[H, W]`; of a palette the index. Raises `InputError`."""
    with _opened(path) as found:
        if found.mode not in _NUMBERED:
            raise InputError(
                f"the mask's pixels are colours ({found.mode}), not class numbers",
                where=str(path),
                hint="Write masks as grey or palette PNG files whose values are the classes, 255 to ignore.",
            )
        return np.asarray(found).astype(np.int64)


def picture_size(path: Path) -> tuple[int, int]:
    """Return width and height as the head of the file has them. Raises `InputError`."""
    with _opened(path) as found:
        return found.size


def in_threads(work: Callable[[Any], _T], items: Sequence[Any], workers: int) -> list[_T]:
    """Return `work` of each item, in order; the first error by order is raised."""
    if workers < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image

    with open_file(path, most_bytes=_MOST_BYTES, hint=HINT) as file:
        try:
            with Image.open(file, formats=_FORMATS) as opened:
                yield opened
        except InputError:
            raise
        except Exception as error:  # Pillow's readers raise nearly anything at a damaged picture
            said = str(error).replace(repr(file), "this file") or type(error).__name__
            raise InputError(f"the picture cannot be read ({said})", where=str(path), hint=HINT) from error
