"""Which sources of networks there are: one file `from_NAME.py` each, found by itself.

Such a file has `find(name, channels, input_shape)`, which returns a `Source` (`channels` of the data and the
shape that was asked for, None where nobody says), and `EXTRA`, the extra of dtp-edge that installs it. Its
package is imported when a network is asked for.
"""

from __future__ import annotations

import importlib

from dtp_edge.files.found import names_in
from dtp_edge.zoo.sources.network_source import Source

__all__ = ["find", "prefixes"]


def prefixes() -> list[str]:
    """Return the names that may stand before the colon of MODEL."""
    return names_in("dtp_edge.zoo.sources", "from_")


def find(
    prefix: str, name: str, channels: int | None = None, input_shape: tuple[int, ...] | None = None
) -> Source:
    """Return the network `name` of a source; raises `InputError` where it cannot be had."""
    module = importlib.import_module(f"{__package__}.from_{prefix}")
    return module.find(name, channels, input_shape)
