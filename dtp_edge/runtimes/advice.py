"""What to change where an operator stays behind: a rewrite that was left out, or what a person can do."""

from __future__ import annotations

from dtp_edge.runtimes.rewrites import rewrites_of

# (format, part of the operator's name, what to do): each seen in benchmarks/results/formats.md
_BY_HAND: tuple[tuple[str, str, str], ...] = (
    (
        "tflite",
        "hard_swish",
        "XNNPACK has no int8 hard swish: ReLU in its place, trained again, goes whole; fp32 does as it is.",
    ),
    (
        "openvino",
        "math",
        "Hardsigmoid runs by a plain kernel; relu6(x + 3) / 6 in its place is the same and is taken.",
    ),
)


def advice_for(format_name: str, kind: str, rewritten: tuple[str, ...] | None = None) -> str:
    """Return what to change for an operator that a format's unit does not take; "" where nothing is known.

    `rewritten` names the rewrites that were applied (None: not known); one that was not is advised.
    """
    word = kind.lower()
    operator = word.rpartition("::")[2].partition(".")[0]
    left_out = [] if rewritten is None else [r for r in rewrites_of(format_name) if r.name not in rewritten]
    for one in left_out:
        if operator in one.kinds:
            return f"`--rewrites` may name {one.name}: {one.about}."
    return next((text for name, part, text in _BY_HAND if name == format_name and part in word), "")
