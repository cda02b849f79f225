"""Refusals as values: what stays whole, at which node, and why, with a code that programs may read."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Why something stays whole. The text says it for a person; nobody needs to read the text to decide."""

    NO_RULE = "no-rule"  # an operator that no specification labels
    NOT_COVERED = "not-covered"  # a use of an operator that its label rule was not written for
    FAULT = "fault"  # the label rule itself failed: ours to mend
    OUTPUT = "output"  # the network hands it out
    EXCLUDED = "excluded"  # the user wants it whole
    POSITIONS = "positions"  # the operator runs over places: pixels, tokens, steps
    OVER_CHANNELS = "over-channels"  # the operator mixes all channels in a way that no mask undoes
    INDEX = "index"  # looked up by number
    APART = "apart"  # taken apart into pieces with a meaning each
    MEETS_WHOLE = "meets-whole"  # tied to something that cannot be cut
    STRETCHED = "stretched"  # one value for all indices
    KERNEL = "kernel"  # the places of a kernel, which nobody prunes
    IN_PLACE = "in-place"  # written through a view that surgery would copy
    TIED = "tied"  # its channels can only be removed all together
    CONSTANT = "constant"  # numbers that no layer makes
    NEEDED = "needed"  # an operand of an addition that is read elsewhere too
    FREE = "free"  # a branch that costs nothing
    INPUT = "input"  # a branch that holds an input of the network
    LAST = "last"  # without it nothing would be left


@dataclass(frozen=True)
class Refusal:
    """Why atoms stay: `node` is the graph's node that keeps them, "" where none does."""

    code: Code
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.text} ({self.node})" if self.node else self.text


class NotCovered(Exception):
    """Raised by a label rule that meets a use which it was not written for; the text says which."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
