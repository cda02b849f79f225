"""The user's own module, cut: what people fine-tune, if it still runs and computes the same.

A deep copy gets the cut tensors, and the attributes of known module classes (channels, groups, features,
heads) are set to match. Python source may have sizes written in it that no attribute changes, so the copy
counts only after it has run and agreed with the graph module on random inputs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from dtp_edge.errors import first_line
from dtp_edge.graph.hush import hushed
from dtp_edge.graph.leaves import leaves, random_like
from dtp_edge.graph.libraries.library import library_of
from dtp_edge.graph.lift import own_tensors
from dtp_edge.graph.network import PrunableNetwork, kept_indices
from dtp_edge.surgery.compact_graph import CompactGraph, aten
from dtp_edge.surgery.difference import FLOAT32_LIMIT, relative_error
from dtp_edge.surgery.dropped import drop_modules
from dtp_edge.surgery.kept import KeptIndices

TRAIN_LIMIT = 1e-2  # batch norm over two small samples magnifies rounding


def cut_in_place(
    network: PrunableNetwork,
    kept: KeptIndices,
    tensors: dict[str, torch.Tensor],
    graph_module: CompactGraph,
    *,
    trains: bool = True,
) -> tuple[nn.Module | None, str | None]:
    """Return the user's module cut in place, or None and the reason why only the graph can be.

    It must compute what the graph does in eval mode, and where `trains` take a training step as well.
    """
    try:
        module = _copy_around(network.module, tensors)
    except Exception as error:
        return None, f"the module cannot be copied: {first_line(error, kind=True)}"
    try:
        reason = drop_modules(module, network, kept.keep)
    except AttributeError as error:  # a module of the graph that is none of the user's any more
        reason = f"a module of the branch is not found ({error})"
    left = [n for n in own_tensors(module) if n not in tensors]
    if reason is None and left:
        reason = f"{left[0]} went with a branch, but not the module that holds it"
    if reason is not None:
        return None, reason
    groups = _groups_by_tensor(graph_module)
    for name, part in module.named_modules():
        _set_attributes(part, name, groups)
    if (library := library_of(module)) is not None:
        library.fit(module, lambda name, dim, at: _halves(network, kept, name, dim, at))
    _set_heads(module, network, kept)
    reason = _differs(module, graph_module, network, trains)
    return (module, None) if reason is None else (None, reason)


def _halves(
    network: PrunableNetwork, kept: KeptIndices, name: str, dim: int, at: int
) -> tuple[int, int] | None:
    """Return how many indices below `at`, and from it on, stay of a tensor's dimension; None if all do."""
    labels = network.tensor_labels.get(name, ())
    if len(labels) <= dim or labels[dim] is None:
        return None
    indices = kept_indices(labels[dim], kept.keep)  # type: ignore[arg-type]
    return int((indices < at).sum()), int((indices >= at).sum())


def _copy_around(module: nn.Module, tensors: dict[str, torch.Tensor]) -> nn.Module:
    """Deep-copy a module with `tensors` in place of its own: the dense tensors are never copied."""
    memo: dict[int, Any] = {}
    for name, tensor in own_tensors(module).items():
        memo[id(tensor)] = tensors[name] if name in tensors else _nothing(tensor)
    return copy.deepcopy(module, memo)


def _nothing(tensor: torch.Tensor) -> torch.Tensor:
    """Return an empty tensor in place of one that went with a branch."""
    empty = tensor.detach().new_empty(0)
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _groups_by_tensor(graph_module: fx.GraphModule) -> dict[str, int]:
    """Return `{weight name: groups}` of convolutions and group norms as the compact graph has them."""
    position = {aten.group_norm.default: (1, 2)}
    found: dict[str, int] = {}
    for node in graph_module.graph.nodes:
        name = getattr(node.target, "_opname", "")
        if name.startswith("conv"):
            groups, weight = (
                (node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)),
                node.args[1],
            )
        elif node.target in position:
            groups, weight = node.args[1], (node.args[2] if len(node.args) > 2 else None)
        else:
            continue
        if isinstance(weight, fx.Node) and weight.op == "get_attr":
            found[str(weight.target)] = groups
    return found


def _set_attributes(part: nn.Module, name: str, groups: dict[str, int]) -> None:
    weight = getattr(part, "weight", None)
    key = f"{name}.weight" if name else "weight"
    if isinstance(part, nn.RNNBase):
        part.hidden_size = int(part.get_parameter("weight_hh_l0").shape[1])
        part.input_size = int(part.get_parameter("weight_ih_l0").shape[1])
        return
    if not isinstance(weight, torch.Tensor):
        return
    shape = weight.shape
    if isinstance(part, _ConvNd):
        part.groups = groups.get(key, part.groups)
        first, second = shape[0], shape[1] * part.groups
        if part.transposed:
            part.in_channels, part.out_channels = first, second
        else:
            part.out_channels, part.in_channels = first, second
            if part.groups > 1:
                part.in_channels = shape[1] * part.groups
    elif isinstance(part, nn.Linear):
        part.out_features, part.in_features = shape
    elif isinstance(part, _NormBase):
        part.num_features = shape[0]
    elif isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
        part.normalized_shape = tuple(shape)
    elif isinstance(part, nn.GroupNorm):
        part.num_channels = shape[0]
        part.num_groups = groups.get(key, part.num_groups)
    elif isinstance(part, nn.PReLU):
        part.num_parameters = shape[0]
    elif isinstance(part, nn.Embedding):
        part.num_embeddings, part.embedding_dim = shape
    elif hasattr(part, "normalized_shape"):
        part.normalized_shape = tuple(shape)  # type: ignore[assignment]


_HEAD_COUNTS = ("num_heads", "heads", "n_heads", "num_attention_heads")
_HEAD_SIZES = ("head_dim", "dim_head", "head_size", "attention_head_size", "key_dim")
_HEAD_PRODUCTS = ("attn_dim", "inner_dim", "all_head_size")


def _set_heads(module: nn.Module, network: PrunableNetwork, kept: KeptIndices) -> None:
    """Set head counts and head sizes of attention modules whose heads were groups of their own.

    Where the size of a head changes, a module that has both an own `scale` and a fused kernel is told to use
    the former (`fused_attn`, timm): the fused kernel would divide by the root of the new size.
    """
    for group in network.groups:
        left = int(kept.keep[group.start : group.stop].sum())
        dense = group.stop - group.start
        if left == dense or group.kind not in ("heads", "inner"):
            continue
        owner = _owner(module, group.name.split(" ")[0])
        for name in _HEAD_COUNTS if group.kind == "heads" else _HEAD_SIZES:
            if owner is None or getattr(owner, name, None) != dense:
                continue
            for product in _HEAD_PRODUCTS:
                whole = getattr(owner, product, None)
                if isinstance(whole, int) and whole % dense == 0:
                    setattr(owner, product, whole // dense * left)
            setattr(owner, name, left)
            if group.kind == "inner" and hasattr(owner, "scale") and hasattr(owner, "fused_attn"):
                owner.fused_attn = False  # type: ignore[assignment]


def _owner(module: nn.Module, name: str) -> nn.Module | None:
    """Return the deepest module with a number of heads on the path `name`."""
    owner, found = module, None
    for part in [*name.split("."), ""]:
        if any(hasattr(owner, a) for a in (*_HEAD_COUNTS, *_HEAD_SIZES)):
            found = owner
        inner = owner._modules.get(part)
        if inner is None:
            break
        owner = inner
    return found


def _differs(
    module: nn.Module, graph_module: CompactGraph, network: PrunableNetwork, trains: bool
) -> str | None:
    """Return why `module` cannot stand for the graph module; None if it runs and agrees."""
    inputs = random_like(network.example_inputs, seed=17)
    module.eval()
    try:
        # a graph module prints the traceback of its failing code; here a failure is an answer, not a fault
        with torch.no_grad(), hushed():
            error = relative_error(leaves(graph_module(*inputs)), leaves(module(*inputs)))
    except Exception as problem:
        return f"cut in place it does not run ({first_line(problem, kind=True)})"
    if not error <= FLOAT32_LIMIT:
        return f"cut in place it computes another function (relative error {error:.2g})"
    return _trains(module, graph_module, pytree.tree_map(_at_least_two, inputs)) if trains else None


def _at_least_two(x: Any) -> Any:
    """Repeat a batch of one: batch norm in train mode has no statistics of one value."""
    return torch.cat([x, x]) if isinstance(x, torch.Tensor) and x.ndim and x.shape[0] == 1 else x


def _trains(module: nn.Module, graph_module: CompactGraph, inputs: tuple[Any, ...]) -> str | None:
    """Return why `module` cannot take a training step; None if it can. Its state is left as it was.

    Where nothing in it is random its output in train mode must be the graph module's as well.
    """
    buffers = {n: b.detach().clone() for n, b in module.named_buffers()}
    rng = torch.get_rng_state()
    try:
        module.train()
        with hushed():
            outputs = leaves(module(*inputs))
        total = torch.stack([x.float().mean() for x in outputs if x.is_floating_point()]).sum()
        if total.requires_grad:
            weights = [p for p in module.parameters() if p.requires_grad]
            torch.autograd.grad(total, weights, allow_unused=True)
        with torch.no_grad():
            reason = _differs_in_training(outputs, graph_module, inputs) if buffers else None
            if reason is not None and relative_error(outputs, leaves(module(*inputs))) == 0.0:
                return reason  # else something in it is random, and no two runs agree
    except Exception as problem:
        return f"cut in place it does not train ({first_line(problem, kind=True)})"
    finally:
        module.eval()
        graph_module.eval()
        torch.set_rng_state(rng)
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in buffers:
                    buffer.copy_(buffers[name])
    return None


def _differs_in_training(
    outputs: list[torch.Tensor], graph_module: CompactGraph, inputs: tuple[Any, ...]
) -> str | None:
    wanted = leaves(graph_module.train()(*inputs))
    if len(wanted) != len(outputs):
        return None  # auxiliary outputs exist in train mode only
    error = relative_error(wanted, outputs)
    if error <= TRAIN_LIMIT:
        return None
    return f"cut in place it computes another function in train mode (relative error {error:.2g})"
