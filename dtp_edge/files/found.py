"""What comes in many kinds is one file each in a folder, and is found by itself."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

__all__ = ["modules_in", "names_in"]


def names_in(package: str, prefix: str = "") -> list[str]:
    """Return the names of a package's modules that begin with `prefix`, without it, in order."""
    home = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(home.__path__))
    return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]


def modules_in(package: str, prefix: str = "") -> dict[str, ModuleType]:
    """Return these modules by their names, imported."""
    return {name: importlib.import_module(f"{package}.{prefix}{name}") for name in names_in(package, prefix)}
