"""What latency models read of a kernel, as sums of products of dimensions."""

from __future__ import annotations

from dtp_edge.cost.kernels import Kernel, as_tuple, fuses_as
from dtp_edge.cost.memory import activation_bytes, weight_bytes
from dtp_edge.cost.terms import Factor, numel
from dtp_edge.cost.work import channels, products
from dtp_edge.graph.layers import Dim, LayerGraph
from dtp_edge.profiles.profile import RateModel

_FEATURES = """cin cout groups kh kw stride in_h in_w out_h out_w macs weight_bytes in_bytes out_bytes
extra_bytes elements rows batch last rank"""
FEATURES: tuple[str, ...] = tuple(_FEATURES.split())
GROWING = frozenset((*FEATURES, "network_bytes")) - {
    "kh",
    "kw",
    "stride",
    "in_h",
    "in_w",
    "out_h",
    "out_w",
    "rank",
}  # with the widths


Terms = list[tuple[float, list[Factor]]]


def bent_work(kernel: Kernel, graph: LayerGraph, model: RateModel) -> Terms:
    """Return work (see `RateModel`) as terms: the saturation factors multiplied out."""
    cin, cout, pixels = channels(kernel, graph)
    step_in, step_out = model.channel_step
    side_step = {"in": step_in, "out": step_out, "": 1}
    result: Terms = []
    for product in products(kernel, graph):
        terms: Terms = [(1.0, [(dim, side_step[side]) for dim, side in product])]
        for bend, gone in zip(
            model.saturation, ([(cin, step_in)], [(cout, step_out)], _unit(pixels)), strict=True
        ):
            if bend:
                terms += [(bend * c, rest) for c, f in terms if (rest := _without(f, gone)) is not None]
        result += terms
    return result


def _unit(dims: list[Dim]) -> list[Factor]:
    return [(dim, 1) for dim in dims]


def _without(factors: list[Factor], gone: list[Factor]) -> list[Factor] | None:
    """Return factors with `gone` divided out, None where they are not all there (no such saturation)."""
    rest = list(factors)
    for factor in gone:
        if factor not in rest:
            if factor[0].width is None and factor[0].size == 1:
                continue
            return None
        rest.remove(factor)
    return rest


def kernel_features(
    kernel: Kernel, graph: LayerGraph, precision: str, step: tuple[int, int] = (1, 1)
) -> dict[str, Terms]:
    """Return the features that measured tables read, each a sum of products; see `FEATURES`."""
    cin, cout, pixels = channels(kernel, graph)
    first = kernel.layers[0]
    out = graph.tensors[first.outputs[0]].shape
    source = graph.tensors[kernel.inputs[0] if kernel.inputs else first.inputs[0]].shape
    attributes = kernel.attributes
    kernel_size = _spatial_kernel(kernel, graph)
    wide = kernel_size[-1]
    if len(kernel_size) == 1 and len(out) < 4:  # one number stands for a square in two dimensions only
        wide = 1
    side = {"in": step[0], "out": step[1], "": 1}
    fixed: dict[str, Terms] = {
        "groups": [(1.0, _groups(kernel, attributes, cin))],
        "kh": [(float(kernel_size[0]), [])],
        "kw": [(float(wide), [])],
        "stride": [(float(max(as_tuple(attributes.get("stride") or 1) or (1,))), [])],
        "cin": [(1.0, [(cin, step[0])])],
        "cout": [(1.0, [(cout, step[1])])],
        "rows": [(1.0, _unit(pixels))],
        "last": [(1.0, _unit(list(out[-1:])))],
        "rank": [(float(len(out)), [])],
        "elements": [(1.0, numel(out))],
        "macs": [(1.0, [(d, side[s]) for d, s in product]) for product in products(kernel, graph)],
        "batch": [(1.0, numel(out[:-2]))] if kernel.family == "matmul" else [(1.0, [])],
    }
    for label, shape in (("in", source), ("out", out)):
        spatial = list(shape[2:]) if len(shape) >= 3 else []
        fixed[f"{label}_h"] = [(1.0, _unit(spatial[:1]))]
        fixed[f"{label}_w"] = [(1.0, _unit(spatial[1:]))]
    reads = [n for n in kernel.inputs if n != kernel.fused_operand]
    extra = [kernel.fused_operand] if kernel.fused_operand else []
    for label, names in (("in_bytes", reads), ("out_bytes", kernel.outputs), ("extra_bytes", extra)):
        tensors = [graph.tensors[n] for n in names]
        fixed[label] = [(float(activation_bytes(t, precision)), numel(t.shape)) for t in tensors]
    weights = [graph.tensors[n] for n in kernel.weights]
    fixed["weight_bytes"] = [(float(weight_bytes(t, precision)), numel(t.shape)) for t in weights]
    return fixed


def _groups(kernel: Kernel, attributes: object, cin: Dim) -> list[Factor]:
    if kernel.family == "depthwise" or fuses_as(kernel.op) == "norm":
        return [(cin, 1)]
    groups = kernel.attributes.get("groups", 1)
    return [(Dim(int(groups)), 1)]  # type: ignore[call-overload]


def _spatial_kernel(kernel: Kernel, graph: LayerGraph) -> tuple[int, ...]:
    given = kernel.attributes.get("kernel_size")
    if given:
        return as_tuple(given)
    if "conv" in kernel.op and kernel.weights:
        shape = graph.tensors[kernel.weights[0]].shape
        if len(shape) > 2:
            return tuple(d.size for d in shape[2:])
    return (1,)
