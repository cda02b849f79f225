"""Parameters back into an exported graph, and graph modules that write their code late."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import namedtuple

import pytest
import torch
from torch import fx, nn

from dtp_edge.graph.lazy import LazyGraphModule, _Unwritten, graph_module_over
from dtp_edge.graph.leaves import leaves
from dtp_edge.graph.lift import lift, own_tensors

Pair = namedtuple("Pair", "first second")


class Everything(nn.Module):
    """Tied weights, a buffer that is not saved, a constant, a list of parameters, nested outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("offset", torch.randn(4), persistent=False)
        self.gains = nn.ParameterList([nn.Parameter(torch.randn(4)) for _ in range(2)])
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor, y: torch.Tensor):
        z = self.second(self.first(x) + self.offset) * self.gains[0] + y * self.gains[1]
        return {"z": z, "pair": Pair(z + torch.tensor([1.0, 2.0, 3.0, 4.0]), [x])}


class Writes(nn.Module):
    """Counts its calls in a buffer."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls.add_(1)
        return self.layer(x) + self.calls


def exported(model: nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    return torch.export.export(model.eval(), inputs, strict=False)


def test_computes_what_torch_lifts_and_shares_the_models_tensors():
    model, inputs = Everything(), (torch.randn(3, 4), torch.randn(3, 4))
    wanted = exported(model, *inputs).module()(*inputs)
    module = lift(exported(model, *inputs), model)
    found = module(*inputs)
    assert set(found) == {"z", "pair"}
    assert isinstance(found["pair"], Pair)
    for a, b in zip(leaves(found), leaves(wanted), strict=True):
        assert torch.equal(a, b)
    own = own_tensors(model)
    read = {str(n.target) for n in module.graph.nodes if n.op == "get_attr" and n.users}
    assert {"offset", "gains.0", "gains.1"} <= read
    assert len({"first.weight", "second.weight"} & read) == 1  # torch.export names a tied tensor once
    for name, tensor in own_tensors(module).items():
        if name in own:
            assert tensor is own[name]
    with torch.no_grad():
        model.first.weight.zero_()
    assert not torch.equal(module(*inputs)["z"], wanted["z"])


@pytest.mark.parametrize("decomposed", [False, True])
def test_a_graph_that_writes_to_a_buffer_still_writes(decomposed):
    model, x = Writes(), torch.randn(2, 4)
    program = exported(model, x)
    if decomposed:  # the new value becomes an output of the program, which torch copies back
        program = program.run_decompositions({})
    module = lift(program, model)
    with torch.no_grad():
        wanted = model.layer(x)
        for _ in range(2):
            module(x)
    assert torch.equal(model.calls, torch.tensor(2.0))
    assert torch.equal(module(x), wanted + 3)


def test_own_tensors_are_all_names_of_all_tensors():
    model = Everything()
    pairs = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    found = own_tensors(model)
    assert set(found) == {n for n, _ in pairs}
    assert all(found[n] is t for n, t in pairs)


def double() -> LazyGraphModule:
    graph = fx.Graph()
    x = graph.placeholder("x")
    weight = graph.get_attr("a.b.weight")
    graph.output(graph.call_function(torch.ops.aten.mul.Tensor, (x, weight)))
    tensors = {"a.b.weight": nn.Parameter(torch.tensor(2.0)), "a.table": torch.zeros(3)}
    return graph_module_over(graph, tensors, LazyGraphModule)


def unwritten(module: nn.Module) -> bool:
    return isinstance(vars(type(module)).get("forward"), _Unwritten)


def test_code_is_written_at_the_first_look_and_again_after_a_change():
    module = double()
    assert unwritten(module)
    assert [n for n, _ in module.named_parameters()] == ["a.b.weight"]
    assert [n for n, _ in module.named_buffers()] == ["a.table"]
    assert list(inspect.signature(module.forward).parameters) == ["x"]
    assert not unwritten(module)
    assert module(torch.tensor(3.0)) == 6
    node = next(n for n in module.graph.nodes if n.op == "call_function")
    node.target = torch.ops.aten.add.Tensor
    module.recompile()
    assert unwritten(module)
    assert module(torch.tensor(3.0)) == 5
    assert "add" in module.code
    assert "add" in str(module)


def test_copies_and_pickles_compute_the_same():
    module = double()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin(torch.tensor(3.0)) == 6
    assert module.graph.owning_module is module  # pickling goes through a plain module of the same graph
    assert copy.copy(module)(torch.tensor(3.0)) == 6
    assert module(torch.tensor(4.0)) == 8


def test_modules_do_not_share_code():
    one, two = double(), double()
    one(torch.tensor(1.0))
    assert unwritten(two)
    next(n for n in two.graph.nodes if n.op == "call_function").target = torch.ops.aten.add.Tensor
    two.recompile()
    assert one(torch.tensor(3.0)) == 6
    assert two(torch.tensor(3.0)) == 5


def test_exports_again():
    module, x = double(), torch.randn(3)
    again = torch.export.export(module, (x,), strict=False).module()
    assert torch.equal(again(x), 2 * x)
