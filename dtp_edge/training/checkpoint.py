"""A phase's state on disk: one safetensors file a phase, replaced atomically, read without pickle.

Tensors: `module.*`, `best.*`, `ema.*`, `optimizer.<index>.<name>`, `rng.*`, and `good.*` (what a diverging
phase goes back to: the same but `best`). The file's metadata holds the rest as JSON: step, whether the phase
is done, the curve so far, and what the run was started with.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dtp_edge.errors import InputError, require_file
from dtp_edge.files import read_json, write_bytes, write_text

HINT = "Start again without --resume."
_FULL = "Free some space there, then go on with --resume; or name another --out folder."
_MOST_BYTES = 16 * 2**20  # of a run's description

_FORMAT = "dtp_edge.checkpoint.1"


@dataclass
class PhaseState:
    """What `save` writes and `load` returns. `scalars` are the optimiser's numbers that are no tensors.

    `good` is the step that a diverging phase goes back to, `backs` from where to where it has gone.
    """

    step: int
    done: bool
    tensors: dict[str, Tensor]
    rows: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    seconds: float = 0.0
    scalars: dict[str, Any] = field(default_factory=dict)
    good: int = 0
    backs: Sequence[Sequence[int]] = ()


class Store:
    """The checkpoint folder of one run, identified by `run` (recipe, data, network, budget: JSON values).

    With `resume`, a folder of another run is an `InputError`; without, old checkpoints are removed.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], resume: bool, write: bool = True) -> None:
        self.folder, self._write = Path(folder), write
        self._run = json.loads(json.dumps(run, sort_keys=True))
        identity = self.folder / "run.json"
        if resume and identity.is_file():
            self._check_same(identity)
        elif write:
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob("*.safetensors"):
                old.unlink()
            write_text(identity, json.dumps(self._run, indent=1), hint=_FULL)

    def _check_same(self, identity: Path) -> None:
        before = read_json(identity, most_bytes=_MOST_BYTES, hint=HINT)
        if before == self._run:
            return
        keys = [
            k for k in {*_flat(before), *_flat(self._run)} if _flat(before).get(k) != _flat(self._run).get(k)
        ]
        changes = "; ".join(
            f"{k} was {_flat(before).get(k)!r}, is {_flat(self._run).get(k)!r}" for k in sorted(keys)[:4]
        )
        raise InputError(
            f"the checkpoint belongs to another run: {changes}",
            where=str(self.folder),
            hint="Resume with the options of the first run, or start again without --resume.",
        )

    def save(self, phase: str, state: PhaseState) -> None:
        if not self._write:
            return
        from safetensors.torch import save

        header = {
            "format": _FORMAT,
            "state": json.dumps(
                {
                    "step": state.step,
                    "done": state.done,
                    "rows": state.rows,
                    "best": state.best,
                    "seconds": state.seconds,
                    "scalars": state.scalars,
                    "good": state.good,
                    "backs": list(state.backs),
                }
            ),
        }
        # cloned: safetensors refuses tensors that share memory, as tied weights do
        flat = {k: t.detach().cpu().clone().contiguous() for k, t in state.tensors.items()}
        write_bytes(self._path(phase), save(flat, metadata=header), hint=_FULL)

    def load(self, phase: str) -> PhaseState | None:
        path = self._path(phase)
        return read_phase(path) if path.exists() else None

    def _path(self, phase: str) -> Path:
        return self.folder / f"{phase}.safetensors"


def read_phase(path: Path) -> PhaseState:
    """Return the state of a phase that `Store.save` wrote. Raises `InputError` where it cannot be read."""
    require_file(path, HINT)
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        if meta.get("format") != _FORMAT:
            raise ValueError(f"format {meta.get('format')!r}")
        return PhaseState(tensors=tensors, **json.loads(meta["state"]))
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"the checkpoint cannot be read ({error})",
            where=str(path),
            hint="Start again without --resume.",
        ) from error


def rng_tensors() -> dict[str, Tensor]:
    """The state of every global random generator, as tensors."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    _, words, python_gauss = random.getstate()
    states = {
        "rng.torch": torch.get_rng_state(),
        "rng.numpy": torch.from_numpy(np.asarray(keys).astype(np.int64)),
        "rng.numpy_rest": torch.tensor(
            [float(position), float(has_gauss), float(gauss)], dtype=torch.float64
        ),
        "rng.python": torch.tensor(words, dtype=torch.int64),
        "rng.python_gauss": torch.tensor([] if python_gauss is None else [python_gauss], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        states["rng.cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng(tensors: Mapping[str, Tensor]) -> None:
    """Put back what `rng_tensors` gave."""
    torch.set_rng_state(tensors["rng.torch"])
    position, has_gauss, gauss = tensors["rng.numpy_rest"].tolist()
    keys = tensors["rng.numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, int(position), int(has_gauss), gauss))
    gauss_of_python = tensors["rng.python_gauss"].tolist()
    random.setstate(
        (3, tuple(tensors["rng.python"].tolist()), gauss_of_python[0] if gauss_of_python else None)
    )
    if "rng.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng.cuda"])


def optimizer_tensors(optimizer: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimiser's state as named tensors, and its plain numbers."""
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                scalars[f"optimizer.{index}.{name}"] = value
    return tensors, scalars


def load_optimizer(optimizer: Any, state: Mapping[str, Any]) -> None:
    """Put back what `optimizer_tensors` gave; learning rates are the schedule's and not stored."""
    whole = optimizer.state_dict()
    found: dict[int, dict[str, Any]] = {}
    for key, value in state.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            found.setdefault(int(index), {})[name] = value
    whole["state"] = found
    optimizer.load_state_dict(whole)


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict):
        return {prefix: values}
    return {
        k: v for key, value in values.items() for k, v in _flat(value, f"{prefix}.{key}".lstrip(".")).items()
    }
