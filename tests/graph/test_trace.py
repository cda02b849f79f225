"""From the user's module to the graph: what is a batch, what tracing leaves behind, what is copied."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from dtp_edge.errors import InputError, UnsupportedError
from dtp_edge.graph import trace_network
from dtp_edge.graph.leaves import leaves
from dtp_edge.graph.own_copy import own_copy
from dtp_edge.proof import check_traced_equals_own


class Tokens(nn.Module):
    """Linear layers with something in between that looks at the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 16), nn.Linear(16, 24), nn.Linear(24, 5)
        self.kept: dict[int, torch.Tensor] = {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.between(torch.relu(self.second(torch.relu(self.first(x))))).mean(1))

    def between(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class IntOfSize(Tokens):
    def between(self, x):
        return x.reshape(int(x.size(0)), -1, 24)


class Loop(Tokens):
    def between(self, x):
        return torch.stack([x[i] * 2 for i in range(x.size(0))])


class KeyedByBatch(Tokens):
    def between(self, x):
        size = int(x.size(0))
        if size not in self.kept:
            self.kept[size] = torch.arange(float(x.shape[1]))[None, :, None].repeat(size, 1, 1)
        return x + self.kept[size]


class AsLongAsTheLast(Tokens):
    def between(self, x):
        if self.kept.get(0) is None or self.kept[0].shape[0] != x.shape[0]:
            self.kept[0] = torch.ones(x.shape[0], x.shape[1], 1)
        return x + self.kept[0]


class GroupPerSample(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.weight = nn.Conv1d(6, 8, 1), nn.Parameter(torch.randn(8, 1, 3))

    def forward(self, x):
        batch = x.shape[0]
        y = self.first(x.transpose(1, 2)).reshape(1, -1, x.shape[1])
        y = nn.functional.conv1d(y, self.weight.repeat(batch, 1, 1), groups=8 * batch)
        return y.reshape(batch, 8, -1)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("ran_before", [False, True])
@pytest.mark.parametrize("kind", [IntOfSize, Loop, KeyedByBatch, AsLongAsTheLast, GroupPerSample])
def test_a_graph_never_has_another_batch_than_the_users(kind: Any, ran_before: bool, batch: int) -> None:
    torch.manual_seed(0)
    model, x = kind().eval(), torch.randn(batch, 7, 6)
    if ran_before:
        model(torch.cat([x, x]))
    network = trace_network(model, x)
    wanted = copy.deepcopy(model)(x)
    found = network.graph_module(x)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)
    if network.dynamic_batch:
        other = torch.randn(5, 7, 6)
        assert torch.allclose(network.graph_module(other), copy.deepcopy(model)(other), atol=1e-5)
    else:
        assert "own shape" in network.notes[0]
    assert check_traced_equals_own(model, network).passed


def test_a_cache_filled_at_the_traced_batch_does_not_fix_the_batch() -> None:
    model, x = AsLongAsTheLast().eval(), torch.randn(1, 7, 6)
    model(torch.cat([x, x]))
    assert trace_network(model, x).dynamic_batch


class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.steps, self.last = nn.Linear(6, 16), nn.GRU(16, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.steps(self.first(x))[0][-1])


class TemporalShift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3)

    def forward(self, x):
        clip = self.first(x).relu().unflatten(0, (-1, 4))
        shifted = torch.cat([torch.zeros_like(clip[:, :1, :4]), clip[:, :-1, :4]], 1)
        return self.last(torch.cat([shifted, clip[:, :, 4:]], 2).flatten(0, 1))


class Points(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.first(x).relu().max(0).values)


ROWS = [
    (LastStep(), torch.zeros(9, 1, 6)),
    (nn.TransformerEncoderLayer(16, 2, 32), torch.zeros(9, 1, 16)),
    (TemporalShift(), torch.randn(4, 3, 9, 9)),
    (Points(), torch.randn(20, 3)),
]


@pytest.mark.parametrize(("model", "x"), ROWS, ids=lambda v: type(v).__name__)
def test_rows_that_know_of_each_other_are_no_batch(model: nn.Module, x: torch.Tensor) -> None:
    network = trace_network(model.eval(), x)
    assert not network.dynamic_batch
    assert str(list(x.shape)) in network.notes[0]
    given = network.layers.tensors[network.layers.inputs[0]]
    assert [dim.size for dim in given.shape] == list(x.shape)  # priced as it is


def test_rows_that_are_samples_are_a_batch() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))
    network = trace_network(model.eval(), torch.randn(4, 3, 9, 9))
    assert network.dynamic_batch
    assert network.notes == ()


class Cached(nn.Module):
    """Keeps tensors in an attribute, a list, a dict and a buffer; counts its calls in another."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.Linear(4, 8), nn.Linear(8, 2)
        self.kept: list[torch.Tensor] = []
        self.tables: dict[str, Any] = {"inner": {}}
        self.register_buffer("grid", None)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        if self.grid is None:
            self.grid = torch.arange(8.0)
            self.extra = torch.ones(8)
        self.kept.append(self.layer(x) + self.grid)
        self.tables["inner"]["features"] = self.kept[-1]
        return self.last(self.kept[-1].relu())


def test_tracing_leaves_the_module_as_it_was_found() -> None:
    model, x = Cached().train(), torch.randn(2, 4)
    trace_network(model, x)
    assert model.training
    assert model.layer.training
    assert model.kept == []
    assert model.tables == {"inner": {}}
    assert model.grid is None
    assert not hasattr(model, "extra")
    copy.deepcopy(model)
    assert type(model.eval()(x)) is torch.Tensor
    values = [*vars(model).values(), *model.kept, *model.buffers()]
    assert not [v for v in values if type(v).__name__ == "FakeTensor"]


def plain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(6, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv1d(16, 12, 3, padding=1),
        nn.Flatten(),
        nn.Linear(96, 4),
    )


def masked(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 0.5)


COMPUTED = {
    "old weight norm": weight_norm,
    "weight norm": parametrizations.weight_norm,
    "old spectral norm": spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "mask": masked,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("how", COMPUTED)
def test_computed_weights_become_plain_ones_in_the_copy_alone(how: str) -> None:
    torch.manual_seed(0)
    model, x = plain(), torch.randn(2, 6, 8)
    COMPUTED[how](model[0]), COMPUTED[how](model[2])
    model(x).sum().backward()
    model.eval()
    names, wanted = [n for n, _ in model.named_parameters()], model(x)
    copied, notes = own_copy(model)
    assert torch.equal(copied(x), wanted)
    assert isinstance(copied.get_parameter("0.weight"), nn.Parameter)
    assert "2 layers (0, 2)" in notes[0]
    network = trace_network(model, x)
    assert [(g.name, g.total) for g in network.groups] == [("0", 16), ("2", 12)]
    assert check_traced_equals_own(model, network).passed
    assert [n for n, _ in model.named_parameters()] == names
    assert torch.equal(model(x), wanted)
    assert how != "weight norm" or parametrize.is_parametrized(model[0])


def test_a_copy_shares_nothing_and_wrappers_are_taken_off() -> None:
    inner = plain().eval()
    with torch.inference_mode():
        frozen = plain().eval()
    x = torch.randn(1, 6, 8)
    kinds = (nn.DataParallel(inner), torch.compile(inner), nn.Sequential(nn.DataParallel(inner)), frozen)
    for wrapped in kinds:
        copied, _ = own_copy(wrapped)
        with torch.no_grad():
            assert torch.allclose(copied(x), (frozen if wrapped is frozen else inner)(x))
        assert not {p.data_ptr() for p in copied.parameters()} & {p.data_ptr() for p in wrapped.parameters()}
        assert not any(p.is_inference() for p in copied.parameters())
        assert not any(isinstance(part, nn.DataParallel) for part in copied.modules())


def test_what_cannot_be_pruned_is_refused_by_name() -> None:
    x = torch.randn(1, 6, 8)
    with torch.device("meta"):
        meta = plain()
    refused: list[tuple[Any, type[InputError], str]] = [
        (plain().to(torch.complex64), UnsupportedError, "0.weight: is complex64"),
        (meta, InputError, "meta device"),
        (nn.Sequential(nn.LazyLinear(4)), InputError, "0.weight: is a parameter of a lazy module"),
        (torch.export.export(plain().eval(), (x,)), InputError, "ExportedProgram"),
        (torch.jit.trace(plain().eval(), x), UnsupportedError, "TorchScript"),
        ({"weight": x}, InputError, "is a dict"),
    ]
    for model, kind, text in refused:
        with pytest.raises(kind) as caught:
            own_copy(model)
        assert text in str(caught.value)
        assert caught.value.exit_code == 2
    locked = plain()
    locked.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UnsupportedError, match="cannot be copied"):
        own_copy(locked)


def test_sizes_that_depend_on_values_are_refused_at_their_line() -> None:
    class Selects(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 8)

        def forward(self, x):
            y = self.layer(x)
            return y[y > 0]

    with pytest.raises(UnsupportedError, match="depends on the values") as caught:
        trace_network(Selects().eval(), torch.randn(1, 4))
    assert "test_trace.py" in str(caught.value)


def test_threads_trace_one_at_a_time() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            trace_network(plain().eval(), torch.randn(1, 6, 8))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert errors == []


def test_the_callers_surroundings_are_no_part_of_the_network() -> None:
    model, x = plain().eval(), torch.randn(1, 6, 8)
    wanted = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network = trace_network(model, x)
    assert torch.equal(network.graph_module(x), wanted)
    with torch.inference_mode():
        network = trace_network(model, x)
    assert torch.equal(network.graph_module(x), wanted)
    torch.set_default_device("meta")
    try:
        network = trace_network(model, x)
        assert check_traced_equals_own(model, network).passed
    finally:
        torch.set_default_device(None)
    assert torch.equal(network.graph_module(x), wanted)


def test_dicts_and_lists_as_inputs_have_a_free_batch() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, batch):
            return {"z": self.last(self.first(batch["a"]).relu() + batch["b"][0]), "a": batch["a"]}

    def given(n: int) -> dict[str, Any]:
        return {"a": torch.randn(n, 4), "b": [torch.randn(n, 8)]}

    model, more = Nested().eval(), given(5)
    network = trace_network(model, (given(1),))
    assert network.dynamic_batch
    for mine, yours in zip(leaves(network.graph_module(more)), leaves(model(more)), strict=True):
        assert torch.allclose(mine, yours, atol=1e-6)


def test_a_good_trace_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trace_network(Loop().eval(), torch.randn(1, 7, 6))
        trace_network(Cached().eval(), torch.randn(2, 4))
    assert capfd.readouterr() == ("", "")
