"""A part of a larger network: it alone is traced, priced, cut and exported; the whole learns and is judged.

What cannot be traced as a whole (candidates picked by score, caches, two stages) often has a backbone that
can. The part's inputs are those that the whole gives it, recorded from one call. Whatever takes its place
later, a masked network or a graph, is wrapped in a `Stand`, which is called as the part was.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from dtp_edge.errors import InputError, UnsupportedError, first_line, nearest, users_line
from dtp_edge.graph.arguments import in_order
from dtp_edge.graph.as_found import left_as_found
from dtp_edge.graph.hush import hushed
from dtp_edge.graph.leaves import copied
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.modes import mode_of
from dtp_edge.graph.own_copy import own_copy

__all__ = ["Stand", "Whole", "inside"]

_ARGUMENT = "--part"


class Stand(nn.Module):
    """Stands in the part's place: called as `part` was, it runs `run` on the arguments in their order.

    Attributes that the whole reads of the part (`out_channels`, `stride`) are those of `run`, else of `part`.
    """

    def __init__(self, run: Any, part: nn.Module, inputs: int) -> None:
        super().__init__()
        self.run, self.inputs = run, inputs
        self.__dict__["_part"] = [part]  # in a list: not a submodule

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(*arguments_of(self._part[0], args, kwargs)[: self.inputs])

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):  # `__deepcopy__` of a graph would copy that alone
                raise
            run = self.__dict__.get("run") or self.__dict__["_modules"].get("run")
            return getattr(run, name) if hasattr(run, name) else getattr(self.__dict__["_part"][0], name)


def inside(place: nn.Module) -> nn.Module:
    """Return what runs in a part's place."""
    return place.run if isinstance(place, Stand) else place


@dataclass
class Whole:
    """The network around a part: `module` is a copy of the user's, with the part's place at `path`.

    `part` is the user's part as it was found, `inputs` what it was called with, in the order of its forward;
    `example_inputs` are the whole's own. `notes` say what differs in the copy from what the user gave.
    """

    module: nn.Module
    path: str
    part: nn.Module
    inputs: tuple[Any, ...]
    example_inputs: tuple[Any, ...]
    notes: tuple[str, ...] = ()
    places: tuple[str, ...] = field(default_factory=tuple)

    @classmethod
    def of(cls, model: Any, path: str, example_inputs: tuple[Any, ...]) -> Whole:
        """Find a part by its name in `named_modules` and record what one call of the whole gives it.

        **Raises:** `InputError` for a name that is none, or a part that this call does not reach;
        `UnsupportedError` for one that is called several times, shares weights with the rest or takes
        something else than tensors.
        """
        whole = cls.at(model, path, 0)
        whole.inputs = _recorded(whole.module, whole.part, path, example_inputs)
        whole.example_inputs = example_inputs
        whole._refuse_shared()
        return whole

    @classmethod
    def at(cls, model: Any, path: str, arguments: int) -> Whole:
        """Return a copy of a network with the place at `path` known, whose part takes so many arguments."""
        module, notes = own_copy(model)
        part = _named(module, path)
        places = [n for n, m in module.named_modules(remove_duplicate=False) if m is part]
        return cls(module, path, part, (None,) * arguments, (), notes, tuple(places))

    def put(self, part: nn.Module, whole: nn.Module | None = None) -> nn.Module:
        """Put something into the part's place in the whole, or in a copy of it; return the same module."""
        own = type(part) in (type(self.part), Stand, _Answer)
        placed = part if own else Stand(part, self.part, len(self.inputs))
        found = self.module if whole is None else whole
        for name in self.places:
            parent, _, child = name.rpartition(".")
            setattr(found.get_submodule(parent), child, placed)
        return found

    def inside(self, whole: nn.Module) -> nn.Module:
        """Return what is in the part's place in a copy of the whole."""
        return whole.get_submodule(self.path)

    def around(self, part: nn.Module) -> nn.Module:
        """Return a copy of the whole with `part` itself in the part's place."""
        before = self.inside(self.module)
        try:
            return copy.deepcopy(self.put(part), {id(part): part})
        finally:
            self.put(before)

    @contextmanager
    def answering(self, output: Any) -> Iterator[nn.Module]:
        """Let the part answer `output` whatever it is given, in the block: what follows it, alone.

        The whole is in training, for a detector has its losses there; its buffers are as before afterwards.
        """
        before, buffers = self.inside(self.module), [(b, b.clone()) for b in self.module.buffers()]
        try:
            placed = self.put(_Answer(output, self.part))
            with mode_of(placed, training=True):
                yield placed
        finally:
            self.put(before)
            for buffer, value in buffers:
                buffer.data.copy_(value)

    def inputs_of(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return what the part is given in one call of the whole; see `recorded`."""
        return self.recorded(self.module, args, kwargs)

    @torch.no_grad()
    def recorded(self, whole: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return what the part is given in one call of a copy of the whole in evaluation, no further run.

        **Raises:** `InputError` where these inputs do not reach it.
        """
        found: list[tuple[Any, ...]] = []

        def note(*given: Any, **named: Any) -> None:
            found.append(arguments_of(self.part, given, named))
            raise _Reached

        before = self.inside(whole)
        try:
            self.put(_Answer(note, self.part, calls=True), whole)
            with mode_of(whole, training=False):
                whole(*args, **kwargs)
        except _Reached:
            pass
        finally:
            self.put(before, whole)
        if not found:
            raise InputError(
                "is not called for these inputs",
                where=f"{_ARGUMENT} {self.path}",
                hint="Name a part that every call of the network reaches.",
            )
        return found[0]

    def rest(self) -> dict[str, torch.Tensor]:
        """Return the weights and buffers of everything but the part, by name."""
        inside = tuple(f"{name}." for name in self.places)
        return {n: t for n, t in own_tensors(self.module).items() if not n.startswith(inside)}

    def rest_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of everything but the part, each once."""
        found = {id(t): t for t in self.rest().values() if isinstance(t, nn.Parameter)}
        return list(found.values())

    def note(self) -> str:
        """Say what a person must know of a budget and a file that are the part's."""
        own = sum(p.numel() for p in self.part.parameters())
        total = own + sum(p.numel() for p in self.rest_parameters())
        return (
            f"only {self.path} ({own} of {total} parameters) is priced, pruned and in the files: the rest of "
            "the network takes its own time and memory on the device"
        )

    def _refuse_shared(self) -> None:
        own = {id(t): n for n, t in own_tensors(self.part).items()}
        for name, tensor in self.rest().items():
            if id(tensor) in own:
                raise UnsupportedError(
                    f"shares a weight with the rest of the network ({name})",
                    where=f"{_ARGUMENT} {self.path}",
                    hint="Name a part that holds both, or untie them.",
                )


class _Reached(Exception):
    """The part was called."""


class _Answer(Stand):
    """Answers what it was made with, or with `calls` what that returns."""

    def __init__(self, output: Any, part: nn.Module, *, calls: bool = False) -> None:
        super().__init__(None, part, 0)
        self.__dict__["_output"], self.calls = [output], calls  # in a list: not a submodule

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.__dict__["_output"][0]
        return output(*args, **kwargs) if self.calls else output


def _named(module: nn.Module, path: str) -> nn.Module:
    names = dict(module.named_modules())
    names.pop("", None)
    if path in names:
        return names[path]
    near = nearest(path, names)
    top = [name for name, _ in module.named_children()]
    hint = f"Did you mean {', '.join(near)}?" if near else f"There are {', '.join(top[:8])} and their parts."
    raise InputError(f"the network has no part {path!r}", where=_ARGUMENT, hint=hint)


def _recorded(
    module: nn.Module, part: nn.Module, path: str, example_inputs: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Return the arguments of the one call of the part in one call of the whole, in the order of forward."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    where = f"{_ARGUMENT} {path}"

    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append((copied(args), copied(kwargs)))

    handle = part.register_forward_pre_hook(note, with_kwargs=True)
    try:
        with torch.no_grad(), hushed(), left_as_found(module):
            module(*copied(example_inputs))
    except Exception as error:  # whatever the user's code raises
        raise InputError(
            f"the network does not run on its example inputs ({first_line(error)})",
            where=users_line(error) or where,
            hint="Give inputs that the whole network takes in eval mode.",
        ) from error
    finally:
        handle.remove()
    if not calls:
        raise InputError(
            "is never called as a module when the whole network runs on its example inputs",
            where=where,
            hint="Name a module whose forward is called, such as one inside it, or give other inputs.",
        )
    if len(calls) > 1:
        raise UnsupportedError(
            f"is called {len(calls)} times in one call of the whole network, so its price is not that of one",
            where=where,
            hint="Name the module that makes these calls, or one of several inside.",
        )
    inputs = arguments_of(part, *calls[0])
    others = [x for x in pytree.tree_leaves(inputs) if not isinstance(x, (torch.Tensor, type(None)))]
    if others or not any(isinstance(x, torch.Tensor) for x in pytree.tree_leaves(inputs)):
        kind = type(others[0]).__name__ if others else "nothing"
        raise UnsupportedError(
            f"takes {kind} where a file takes tensors",
            where=where,
            hint="Name a part inside it that takes tensors: `--part` and the names of its children.",
        )
    return inputs


def arguments_of(part: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a call in the order of forward, but for the last ones that say the default."""
    found = list(in_order(part, *args, **kwargs) if kwargs else args)
    defaults = [p.default for p in inspect.signature(part.forward).parameters.values()]
    while found and len(found) <= len(defaults) and _says_default(found[-1], defaults[len(found) - 1]):
        found.pop()
    return tuple(found)


def _says_default(value: Any, default: Any) -> bool:
    plain = isinstance(value, (bool, int, float, str, type(None)))
    return plain and type(value) is type(default) and value == default
