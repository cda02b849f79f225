"""A few training inputs as the network that is pruned reads them, to fit its layers on."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from dtp_edge.training.data.source import DataSource
from dtp_edge.training.feed import Feed
from dtp_edge.training.objectives import nests
from dtp_edge.training.recipe import Recipe

__all__ = ["refit_batches"]

_REFIT_PIXELS = 2**22  # 83 images of 224 x 224
Arguments = tuple[Any, ...]


def refit_batches(
    data: DataSource, recipe: Recipe, feed: Feed | None = None, whole: nn.Module | None = None
) -> list[Arguments]:
    """Training inputs that the compact network is fitted on, one batch if can be, the same in every process.

    At most `refit_images` samples, fewer of large ones so that their activations fit into memory. What does
    not go into one batch, as sequences of different lengths, stays in several. `whole` is the dense network.
    """
    feed = Feed() if feed is None else feed
    if recipe.refit_images < 1:
        return []
    found: list[Arguments] = []
    size = min(recipe.refit_images, recipe.batch_size, len(data.train))
    if data.input_shape:
        size = min(size, _affordable(data.input_shape[1:]))
    count = 0
    for batch in data.train.shuffled(size, seed=recipe.seed, epoch=0):
        arguments = feed.arguments(batch).args if whole is None else feed.part_inputs(whole, batch)
        found.append(arguments)
        count += nests.length(arguments)
        shape = max((t.shape[1:] for t in tree_leaves(arguments) if isinstance(t, Tensor)), key=math.prod)
        most = min(recipe.refit_images, _affordable(data.input_shape[1:] or tuple(shape[1:])))
        if count >= most:
            return _joined(found, most)
    return _joined(found, recipe.refit_images)


def _affordable(shape: tuple[int, ...]) -> int:
    return max(16, _REFIT_PIXELS // max(1, math.prod(shape)))


def _joined(batches: list[Arguments], most: int) -> list[Arguments]:
    """One batch of several, of `most` samples, where their sizes are alike; else the batches."""
    flat = [tree_leaves(batch) for batch in batches]
    shapes = {tuple(x.shape[1:] if isinstance(x, Tensor) else x for x in leaves) for leaves in flat}
    whole = all(isinstance(x, Tensor) and x.dim() for leaves in flat for x in leaves)
    if not whole or len(shapes) != 1:
        return batches
    return [tree_map(lambda t: t[:most], nests.joined(batches))]
