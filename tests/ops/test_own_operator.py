"""An operator from a package of one's own, by the steps of CONTRIBUTING: one file and one entry point."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.own_package import install, run_with

KERNEL = """
import torch

library = torch.library.Library("house", "DEF")
library.define("damped(Tensor x, Tensor gain) -> Tensor")
library.impl("damped", lambda x, gain: torch.tanh(x) * gain.reshape(-1, 1, 1), "CompositeExplicitAutograd")
torch.library.register_fake("house::damped", lambda x, gain: torch.empty_like(x))
"""
SPECIFICATION = '''
from dtp_edge.ops import Spec, T, example, register


def label(ctx, a, out):
    """One gain a channel; the rest passes through."""
    x = ctx.value(a["x"])
    out.labels[:] = [ctx.read(x, d) for d in range(x.rank)]
    ctx.bind(ctx.value(a["gain"]), 0, out.labels[1])


register(Spec(names=("damped",), label=label, kernel="elementwise",
              examples=(example(T((2, 6, 4, 4)), T((6,), "parameter")),)))
'''
USE = """
import house_kernel
import json
import numpy as np
import torch
from torch import nn
from dtp_edge import load_profile
from dtp_edge.cost import NetworkCost
from dtp_edge.graph import MaskedNetwork, trace_network
from dtp_edge.surgery import compact


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 4, 3)
        self.gain = nn.Parameter(torch.rand(16) + 0.5)

    def forward(self, x):
        return self.b(torch.ops.house.damped(self.a(x), self.gain))


torch.manual_seed(0)
network = trace_network(Net().eval(), torch.randn(1, 3, 12, 12))
keep = np.arange(network.n_atoms) % 2 == 0
result = compact(network, keep)
cost = NetworkCost(network.layers, load_profile("rpi4-ncnn-fp32-1t"))
x = torch.randn(1, 3, 12, 12)
print(json.dumps({
    "widths": network.widths(keep),
    "gain": list(dict(result.module.named_parameters())["gain"].shape),
    "difference": (result.module(x) - MaskedNetwork(network, keep)(x)).abs().max().item(),
    "extrapolated": cost.extrapolations(),
    "frozen": [f.name for f in network.frozen],
}))
"""


def test_an_operator_comes_in_by_one_file_and_an_entry_point(tmp_path: Path) -> None:
    files = {"house_kernel": KERNEL, "house_operator": SPECIFICATION}
    install(tmp_path, "dtp_edge.operators", "house = house_operator", **files)
    said = json.loads(run_with(tmp_path, USE))
    assert said["widths"] == {"a": [8, 16]}
    assert said["gain"] == [8]
    assert said["difference"] < 1e-5
    assert not said["extrapolated"]
    assert said["frozen"] == ["b"]
