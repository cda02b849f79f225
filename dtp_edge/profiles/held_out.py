"""How far a profile errs on what it was not fitted to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HeldOutError:
    """Relative error on data that the profile has not seen; None where nothing was held out."""

    status: str
    how: str
    median_relative: float | None = None
    p90_relative: float | None = None
    n: int = 0
    notes: str = ""

    def text(self) -> str:
        """Return one line for reports, such as "fitted, ±10.6 % (median of 26 held out: ...)"."""
        if self.median_relative is None:
            return f"{self.status}, error unknown: {self.how}"
        tail = "" if self.p90_relative is None else f", 90 % within {self.p90_relative * 100:.0f} %"
        size = f"±{self.median_relative * 100:.1f} % (median of {self.n} held out{tail})"
        return f"{self.status}, {size}: {self.how}"
