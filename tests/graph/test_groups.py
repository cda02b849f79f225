"""Groups as a person would make them: streams, heads, inner dimensions, branches of their own."""

from __future__ import annotations

import helpers.more_structures  # noqa: F401  (adds structures)
import numpy as np
import torch
from helpers.graph_structures import build
from torch import Tensor, nn

from dtp_edge.graph import trace_network


def groups_of(name: str) -> dict[str, tuple[str, int, int]]:
    model, x = build(name)
    return {g.name: (g.kind, g.stop - g.start, g.channels_per_atom) for g in trace_network(model, x).groups}


def test_a_residual_stream_is_one_group() -> None:
    found = groups_of("Residual")
    assert "a.0" in found
    assert sorted(n for _, n, _ in found.values()) == [6, 8]


def test_attention_offers_heads_and_inner_dimensions() -> None:
    found = groups_of("FusedQkv")
    assert ("heads", 4, 1) in found.values()
    assert ("inner", 4, 1) in found.values()
    separate = groups_of("SeparateQkv")
    assert sorted(n for kind, n, _ in separate.values() if kind == "inner") == [3, 5]


def test_grouped_convolution_prunes_equal_numbers_in_every_group() -> None:
    model, x = build("Grouped")
    network = trace_network(model, x)
    name = {g.name: g for g in network.groups}["a.0"]
    assert (name.stop - name.start, name.channels_per_atom, name.total) == (6, 4, 24)
    rows = network.tensor_labels["a.0.weight"][0]
    assert rows is not None
    assert np.array_equal(rows[:6], rows[6:12])


def test_concatenated_branches_stay_apart() -> None:
    model, x = build("Concat")
    found = {g.name: g.stop - g.start for g in trace_network(model, x).groups}
    assert found["a.0"] == 6
    # the stem's first six channels go on alone in a slice, which must keep one of its own
    assert (found["stem.0"], found["stem.0 #2"]) == (6, 2)


def test_channel_shuffle_ties_nothing_beyond_its_groups() -> None:
    model, x = build("ChannelShuffle")
    network = trace_network(model, x)
    assert sum(g.total for g in network.groups) == 12 + 12 + 8


def test_excluded_modules_stay() -> None:
    model, x = build("Residual")
    network = trace_network(model, x, exclude=["a"])
    assert all("a.0.weight" not in dict(g.members) for g in network.groups)
    assert any(f.name == "a.0" and "excluded" in f.reason for f in network.frozen)


def test_no_tensor_is_left_empty_by_one_atom_a_group() -> None:
    class Halves(nn.Module):
        """Each half of the first layer feeds a layer of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(4, 6), nn.Linear(4, 6)
            self.head = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            one, two = torch.sigmoid(self.a(x)).chunk(2, -1)
            return self.head(self.b(one) * self.c(two))

    network = trace_network(Halves(), torch.randn(2, 5))
    keep = np.zeros(network.n_atoms, dtype=bool)
    keep[[g.start for g in network.groups]] = True
    assert (network.layers.sizes(keep.astype(float)) >= 1).all()


def test_a_table_of_constants_is_an_input_and_no_group() -> None:
    """The coordinates that a bias network reads: nobody made them, so nobody can stop making them."""

    class Bias(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("coordinates", torch.randn(5, 4))
            self.a, self.b, self.head = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(x + self.b(torch.relu(self.a(self.coordinates)))))

    network = trace_network(Bias(), torch.randn(2, 5, 6))
    assert [g.name for g in network.groups] == ["a"]
    assert [f.reason for f in network.frozen if f.name == "coordinates"] == [
        "it is a table of constants: no layer produces its channels"
    ]


def test_what_is_one_wide_is_not_listed_as_left_whole() -> None:
    model, x = build("OneChannelAttention")
    network = trace_network(model, x)
    assert [f.name for f in network.frozen] == ["head"]


def test_layer_list_counts_what_convolutions_do() -> None:
    model, x = build("Depthwise")
    network = trace_network(model, x)
    layers = {layer.module: layer for layer in network.layers.layers if layer.op == "conv2d"}
    depthwise = layers["a.0"]
    tensors = network.layers.tensors
    assert tensors[depthwise.inputs[0]].shape[1].width is not None
    assert depthwise.attributes["kernel_size"] == (3, 3)
    assert [d.size for d in tensors[depthwise.outputs[0]].shape] == [1, 8, 8, 8]
    ones = np.ones(network.n_atoms)
    sizes = network.layers.sizes(ones)
    for tensor in tensors.values():
        for dim in tensor.shape:
            assert dim.width is None or dim.scale * sizes[dim.width] == dim.size


def test_sizes_gradient_is_that_of_finite_differences() -> None:
    model, x = build("FusedQkv")
    layers = trace_network(model, x).layers
    rng = np.random.default_rng(0)
    mask, upstream = rng.random(layers.n_atoms), rng.random(len(layers.widths))
    exact = layers.sizes_vjp(mask, upstream)
    for atom in rng.permutation(layers.n_atoms)[:10]:
        step = np.zeros(layers.n_atoms)
        step[atom] = 1e-6
        slope = upstream @ (layers.sizes(mask + step) - layers.sizes(mask - step)) / 2e-6
        assert abs(slope - exact[atom]) < 1e-6
