"""What a board draws: energy is that times latency."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Power:
    """What the board draws while it runs a network; single networks are within `relative_spread` of it."""

    watts: float
    relative_spread: float
    source: str
