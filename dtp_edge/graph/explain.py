"""Why a network cannot be traced: what, at which line of whose file, and what to do about it."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx, nn

from dtp_edge.errors import UnsupportedError, users_line
from dtp_edge.graph.hush import hushed
from dtp_edge.graph.leaves import call, leaves

_PART = "or prune a part of the network that can be traced: --part NAME."
_KINDS = (  # words of torch's message, what they mean, what to do
    (
        ("data-dependent", "DataDependent", "specialized integer", "aten._local_scalar_dense"),
        "it takes a number out of a tensor, or decides by one, which no fixed graph can hold",
        f"Write that line with torch.where or a constant, {_PART}",
    ),
    (
        ("fake impl", "Meta tensors", "meta kernel", "FakeTensor", ".numpy()", "tensor subclasses"),
        "it runs an operator that torch.export cannot follow",
        f"Use torch's own operators on that line (a custom one needs torch.library.register_fake), {_PART}",
    ),
)
_LONGEST = 160


def explain(
    model: nn.Module, example_inputs: tuple[Any, ...], failures: Sequence[Exception]
) -> UnsupportedError:
    """Return the error to raise where every attempt to trace `model` failed."""
    name = type(model).__name__
    try:
        call(model, example_inputs)
    except Exception as error:  # whatever the user's code raises
        shapes = ", ".join(str(list(x.shape)) for x in leaves(example_inputs)) or "(no tensors)"
        return UnsupportedError(
            f"{name} does not run on its example inputs {shapes}: {_first_line(error)}",
            where=users_line(error),
            hint="Give inputs that fit, such as --input-shape C,H,W, or correct that line.",
        )
    failure = next((one for one in failures if users_line(one)), failures[0])
    said, kind = _first_line(failure), f"{type(failure).__name__} {failure}"
    for words, meaning, hint in _KINDS:
        if any(word in kind for word in words):
            return UnsupportedError(
                f"torch.export cannot trace {name}: {meaning} ({said})", where=users_line(failure), hint=hint
            )
    return UnsupportedError(
        f"torch.export cannot trace {name}: {said}",
        where=users_line(failure),
        hint=f"Write that part with common torch operators, {_PART}",
    )


def numbers_decide_a_size(graph: fx.Graph) -> UnsupportedError | None:
    """Return the refusal of a graph in which a tensor's size depends on values (NMS, nonzero, x[x > 0])."""
    for node in graph.nodes:
        for value in leaves(node.meta.get("val")):
            unknown = [s for s in value.shape if not isinstance(s, int) and s.node.hint is None]
            if unknown:
                line = (node.meta.get("stack_trace") or "").strip().splitlines()
                return UnsupportedError(
                    f"the size of what {node.name} returns depends on the values in the input: such a "
                    "network has no fixed cost and no fixed graph",
                    where=line[-2].strip() if len(line) > 1 else node.name,
                    hint="Prune a part before that line (--part NAME), or let MODEL return what goes into it "
                    "(the raw boxes and scores), and select afterwards.",
                )
    return None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    text = f"{type(error).__name__}: {text}" if isinstance(error, LookupError | AttributeError) else text
    text = text.partition("  (Size-like symbols")[0].partition(" (unhinted")[0].rstrip(". ")
    return (text if len(text) <= _LONGEST else text[:_LONGEST] + " …") or type(error).__name__


@contextlib.contextmanager
def without_torchs_own_words() -> Iterator[None]:
    """Keep torch's logs and the half-made graph that it prints off stderr, unless TORCH_LOGS is set."""
    if os.environ.get("TORCH_LOGS"):
        yield
        return
    loggers = [logging.getLogger("torch"), *logging.root.manager.loggerDict.values()]
    handlers = {
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger) and logger.name.partition(".")[0] == "torch"
        for handler in logger.handlers
    }
    for handler in handlers:
        handler.addFilter(_reject)
    try:
        with hushed() as heard, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The tensor attribute")  # they are put back: see `as_found`
            yield
        sys.stderr.write(heard.getvalue())  # the network's own; what a failed attempt prints, its error says
    finally:
        for handler in handlers:
            handler.removeFilter(_reject)


def _reject(_record: logging.LogRecord) -> bool:
    return False
