"""Blocked layouts inside the latency model: which table a kernel reads now, and what copies cost.

Tables of blocked kernels are measured on whole blocks: channel counts are rounded up to them at integer
widths (the exact staircase) and left alone in gradients (its secant).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dtp_edge.cost.kernels import Kernel
from dtp_edge.cost.layout import BLOCKED, PLAIN, STEM, Assignment, BlockedLayout
from dtp_edge.cost.table import TableKernel, table_of
from dtp_edge.cost.terms import TermBuilder, round_up
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.profiles.profile import Layout, Profile, TableModel

Arrays = dict[str, np.ndarray]
_COPIES = ("reorder_in", "reorder_out")


class LayoutTerms:
    """The layout decisions of one network as a function of all target values."""

    def __init__(
        self,
        graph: LayerGraph,
        kernels: Sequence[Kernel],
        profile: Profile,
        layout: Layout,
        views: Mapping[str, str],
        builder: TermBuilder,
        known: dict[str, TableKernel],
    ) -> None:
        self._block = layout.block
        self._layout = BlockedLayout(graph, kernels, views, layout)
        self._is_convolution = np.array(
            [k.family in ("conv1x1", "conv3x3", "conv", "depthwise", "grouped") for k in kernels], dtype=bool
        )
        dims = self._layout.channels()
        self._count = len(dims)
        self._first = builder.new_targets(max(self._count, 1))
        for offset, dim in enumerate(dims):
            builder.add(self._first + offset, 1.0, [(dim, 1)])
        shapes = [graph.tensors[name].shape for name in self._layout.tensors]
        self._pixels = np.array([float(np.prod([d.size for d in s[2:]])) for s in shapes])
        self._last = np.array([float(s[-1].size) for s in shapes])
        self._tables: dict[str, TableKernel] = {}
        for key in _COPIES:
            model = profile.kernels.get(key)
            if isinstance(model, TableModel):
                self._tables[key] = table_of(known, key, model)
        self._fallback_ms_per_byte = 1e3 / profile.memory_bytes_per_second

    def variants(self, values: np.ndarray) -> np.ndarray:
        """Return the variant of every kernel, `[n_kernels]`."""
        return self._assign(values).variant

    def runs(self, kernels: Sequence[int], wanted: int, variant: np.ndarray) -> np.ndarray:
        """Return which of `kernels` read the table of variant `wanted` now."""
        return variant[list(kernels)] == wanted

    def select(
        self, kernels: Sequence[int], wanted: int, variant: np.ndarray, features: Arrays
    ) -> tuple[np.ndarray, Arrays]:
        """Return which of `kernels` read this table now, and their features on whole blocks."""
        runs = self.runs(kernels, wanted, variant)
        chosen = {name: column[runs] for name, column in features.items()}
        if wanted == PLAIN or not runs.any():
            return runs, chosen
        index = np.asarray(kernels)[runs]
        is_conv, kind = self._is_convolution[index], variant[index]
        block = np.full(len(index), float(self._block))
        depthwise = chosen["groups"] == chosen["cin"]
        for name, rounds in (
            ("cin", is_conv & (kind == BLOCKED)),
            ("cout", is_conv & (kind <= STEM)),
            ("groups", is_conv & (kind == BLOCKED) & depthwise & (chosen["groups"] > 1)),
        ):
            column = chosen[name]
            chosen[name] = np.where(rounds, round_up(column, block), column)
        return runs, chosen

    def add_copies(self, values: np.ndarray, latency: np.ndarray) -> None:
        """Add the milliseconds of every copy between layouts to the kernel that is charged for it."""
        copies = self._assign(values).copies
        channels = values[self._first : self._first + self._count]
        for key in _COPIES:
            found = [c for c in copies if c.key == key]
            if not found:
                continue
            tensors = np.array([c.tensor for c in found])
            plain = 4.0 * channels[tensors] * self._pixels[tensors]
            wide = np.ceil(channels[tensors] / self._block) * self._block
            blocked = 4.0 * wide * self._pixels[tensors]
            given, made = (plain, blocked) if key == "reorder_in" else (blocked, plain)
            table = self._tables.get(key)
            if table is None:
                cost = (given + made) * self._fallback_ms_per_byte
            else:
                cost = table.latency_ms(self._copy_features(tensors, given, made))
            np.add.at(latency, [c.kernel for c in found], cost)

    def _copy_features(self, tensors: np.ndarray, given: np.ndarray, made: np.ndarray) -> Arrays:
        rank = np.full(len(tensors), 4.0)
        return {"last": self._last[tensors], "rank": rank, "in_bytes": given, "out_bytes": made}

    def _assign(self, values: np.ndarray) -> Assignment:
        return self._layout.assign(values[self._first : self._first + self._count])
