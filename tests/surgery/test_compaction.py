"""masked == compact on every structure, with random weights and norm statistics, at several widths."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.export_structures import STRUCTURES

from benchmarks.problems.keeps import random_keep
from dtp_edge.errors import CheckError
from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.proof import check_masked_equals_compact
from dtp_edge.proof.equality import copied_network, randomise_tensors
from dtp_edge.surgery import compact, put_back
from dtp_edge.surgery.difference import relative_error


@pytest.mark.parametrize("name", sorted(STRUCTURES))
def test_structure_is_equal_or_frozen(name):
    torch.manual_seed(0)
    model, shape = STRUCTURES[name]()
    network = trace_network(model.eval(), (torch.randn(*shape),))
    randomise_tensors(network)
    assert network.groups or network.frozen, "nothing pruned and no reason given"
    for share, seed in ((0.5, 1), (0.7, 2), (0.0, 3)):
        keep = random_keep(network, share, seed)
        result = compact(network, keep)
        single = check_masked_equals_compact(network, keep, result)
        assert single.passed, single
        double = check_masked_equals_compact(network, keep, result, dtype=torch.float64, randomise=True)
        assert double.passed, double
        for name_, dims in result.kept.items():
            assert all(dims.values()), f"{name_} is empty"


def test_the_check_can_fail():
    """A wrong cut (another keep vector of the same size) must not pass for the right one."""
    network, keep = _traced("residual")
    other = keep.copy()
    group = network.groups[0]
    kept, dropped = np.flatnonzero(keep)[0], np.flatnonzero(~keep)[0]
    other[kept], other[dropped] = False, True
    assert group.start <= kept < group.stop
    check = check_masked_equals_compact(network, keep, compact(network, other))
    assert not check.passed
    assert check.value > 1e-2


def test_nothing_left_is_an_error():
    network, keep = _traced("chain")
    with pytest.raises(CheckError, match="nothing in it"):
        compact(network, np.zeros_like(keep))


def test_original_is_untouched_and_nothing_is_shared():
    network, keep = _traced("residual")
    before = {n: t.clone() for n, t in network.module.state_dict().items()}
    result = compact(network, keep)
    with torch.no_grad():
        for tensor in result.module.state_dict().values():
            tensor.zero_()
    for name, tensor in network.module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_in_place_module_keeps_its_class_and_its_attributes():
    network, keep = _traced("depthwise")
    result = compact(network, keep)
    assert result.kind == "module"
    conv = result.module.m[0]
    assert type(result.module) is type(network.module)
    assert (conv.in_channels, conv.out_channels, conv.groups) == (4, 4, 4)
    assert result.module.m[1].num_features == 4


def test_attention_scale_is_that_of_the_dense_head():
    network, keep = _traced("qkv_sdpa")
    result = compact(network, keep)
    (node,) = [n for n in result.graph_module.graph.nodes if "scaled_dot_product" in str(n.target)]
    query = node.args[0]
    assert node.kwargs["scale"] == pytest.approx(4**-0.5)
    assert query is not None


@pytest.mark.parametrize("name", ["residual", "qkv_sdpa", "option_a_shortcut", "lstm"])
def test_put_back_makes_the_masked_network_follow_fine_tuning(name):
    network, keep = _traced(name)
    result = compact(network, keep)
    optimiser = torch.optim.SGD(result.module.parameters(), lr=0.05)
    x = network.example_inputs[0]
    result.module.train()
    for _ in range(2):
        optimiser.zero_grad()
        result.module(x).square().mean().backward()
        optimiser.step()
    result.module.eval()
    masked = MaskedNetwork(network, keep).eval()
    with torch.no_grad():
        assert relative_error(leaves(masked(x)), leaves(result.module(x))) > 1e-3
        put_back(network, result)
        masked = MaskedNetwork(network, keep).eval()
        assert relative_error(leaves(masked(x)), leaves(result.module(x))) < 1e-5


def test_sync_after_conversion():
    network, keep = _traced("residual")
    result = compact(network, keep)
    with torch.no_grad():
        result.module = result.module.double().float()
        for q in result.module.parameters():
            q.data = q.data.clone() + 0.1
    x = network.example_inputs[0]
    result.sync()
    assert torch.allclose(result.module.eval()(x), result.graph_module.eval()(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["module", "graph"])
def test_both_results_train_batch_norm_and_dropout(kind):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.Dropout(0.5), torch.nn.Conv2d(8, 4, 1)
    )
    network = trace_network(model.eval(), (torch.randn(4, 3, 6, 6),))
    result = compact(network, random_keep(network, 0.5, 0))
    module = result.module if kind == "module" else result.graph_module
    x = torch.randn(4, 3, 6, 6) + 2
    before = module.state_dict()["1.running_mean"].clone()
    module.train()
    first, second = module(x), module(x)
    assert not torch.equal(first, second)  # dropout is on
    after = module.state_dict()["1.running_mean"]
    assert not torch.equal(before, after)  # statistics move
    module.eval()
    assert torch.equal(module(x), module(x))
    assert torch.equal(after, module.state_dict()["1.running_mean"])


def test_train_mode_agrees_with_the_dense_network_cut_by_hand():
    """conv-bn-relu-conv cut by hand, in train mode: an independent truth for the training flag."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Conv2d(6, 2, 1)
    )
    network = trace_network(model.eval(), (torch.randn(2, 3, 5, 5),))
    randomise_tensors(network)
    keep = np.array([True, False, True, True, False, True])
    kept = torch.tensor(np.flatnonzero(keep))
    result = compact(network, keep)
    x = torch.randn(8, 3, 5, 5)
    y = torch.nn.functional.conv2d(x, model[0].weight[kept], model[0].bias[kept])
    y = torch.nn.functional.batch_norm(
        y, None, None, model[1].weight[kept], model[1].bias[kept], training=True
    )
    y = torch.nn.functional.conv2d(y.relu(), model[3].weight[:, kept], model[3].bias)
    for module in (result.module, result.graph_module):
        assert torch.allclose(module.train()(x), y, atol=1e-5)


def test_copied_network_shares_tensors_between_module_and_graph():
    network, _ = _traced("residual")
    twin = copied_network(network)
    own = dict(twin.module.named_parameters())
    read = dict(twin.graph_module.named_parameters())
    assert read
    assert all(read[n] is own[n] for n in read)
    assert all(read[n] is not q for n, q in network.module.named_parameters())


def test_random_inputs_follow_their_seed():
    example = (torch.zeros(2, 3), torch.arange(4))
    a, b, other = random_like(example, 1), random_like(example, 1), random_like(example, 2)
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[0], other[0])
    assert sorted(a[1].tolist()) == [0, 1, 2, 3]


def _traced(name):
    torch.manual_seed(0)
    model, shape = STRUCTURES[name]()
    network = trace_network(model.eval(), (torch.randn(*shape),))
    randomise_tensors(network)
    return network, random_keep(network, 0.5, 1)


class Attention(torch.nn.Module):
    """As vision transformers write it: sizes in attributes, a fused kernel or an own scale."""

    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = num_heads, dim // num_heads, dim
        self.scale, self.fused_attn = self.head_dim**-0.5, True
        self.qkv, self.proj = torch.nn.Linear(dim, 3 * dim), torch.nn.Linear(dim, dim)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused_attn:
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            y = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(y.transpose(1, 2).reshape(b, n, self.attn_dim))


def test_attention_with_sizes_in_attributes_is_cut_in_place():
    torch.manual_seed(0)
    model = torch.nn.Sequential(Attention(24, 4), torch.nn.Linear(24, 3))
    network = trace_network(model.eval(), (torch.randn(2, 5, 24),))
    randomise_tensors(network)
    keep = random_keep(network, 0.5, 0)
    result = compact(network, keep)
    assert result.kind == "module", result.reason
    part = result.module[0]
    assert (part.num_heads, part.head_dim, part.attn_dim, part.fused_attn) == (2, 3, 6, False)
    assert check_masked_equals_compact(network, keep, result).passed
    assert model[0].num_heads == 4


def test_magnified_rounding_is_told_from_a_wrong_cut():
    """A network that magnifies rounding passes by float64; the same network cut wrongly does not."""
    network, keep = _traced("residual")
    result = compact(network, keep)
    strict = check_masked_equals_compact(network, keep, result, limit=1e-30)
    assert strict.passed  # decided in float64, where the two agree
    with torch.no_grad():
        result.module.get_parameter("b.weight")[0] *= 1.001
    assert not check_masked_equals_compact(network, keep, result, limit=1e-5).passed


def test_a_trial_in_place_that_fails_prints_nothing(capfd):
    class Literal(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3)
            self.head = torch.nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(x).mean((2, 3)).reshape(-1, 8))

    traced = torch.fx.symbolic_trace(Literal())  # the class of network that prints its own traceback
    network = trace_network(traced, torch.randn(2, 3, 8, 8))
    keep = np.ones(network.n_atoms, dtype=bool)
    keep[0] = False
    result = compact(network, keep)
    assert result.kind == "graph"
    assert result.reason is not None
    assert capfd.readouterr().err == ""
