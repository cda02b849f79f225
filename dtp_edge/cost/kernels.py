"""From ATen layers to the kernels that a runtime runs: families, and what folds into what.

A `Kernel` is one launch. Views cost nothing, layers that read no activation are folded at export, and
a convolution takes its batch norm, activation and residual add with it where the profile says that
the runtime does. An op that no table here knows becomes family "other": it is costed by its bytes, and
its estimate says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dtp_edge.cost.spelled_out import SpelledOut, spelled_out
from dtp_edge.graph.layers import Layer, LayerGraph
from dtp_edge.ops.spec import canonical, spec_of
from dtp_edge.profiles.profile import Fusion


@dataclass(slots=True)
class Kernel:
    """One launch: `layers` are the graph's layers in it (the first names it), `fused` their later ops.

    `inputs` are the activations it reads (a fused second operand last), `weights` the parameters and
    constants it reads at run time, `folded` those that vanish into them (a batch norm's).
    `fused_operand` is the residual that a fused add reads.
    """

    name: str
    family: str
    op: str
    module: str
    layers: list[Layer]
    inputs: list[str]
    weights: list[str]
    outputs: list[str]
    attributes: Mapping[str, object]
    fused: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    fused_operand: str | None = None
    new_bias: bool = False


@dataclass
class Lowered:
    """A graph as kernels in running order.

    `views` maps the output of every free layer to the tensor whose storage it shows; `free` names those
    layers with the reason; `static` are the tensors that depend on no input.
    """

    kernels: list[Kernel]
    views: dict[str, str]
    free: dict[str, str]
    static: set[str]


def op_name(layer: Layer) -> str:
    """Return the op's one plain name: `add_` and `aten.add` are `add`, `clip` is `clamp`."""
    name = layer.op.rsplit("::", 1)[-1].removeprefix("aten.").split(".")[0]
    return canonical(name if name.startswith("__") else name.rstrip("_") or name)


def fuses_as(op: str) -> str:
    """Return what an op is to a runtime that fuses: "convolution", "norm", "activation" or ""."""
    spec = spec_of(op)
    return "" if spec is None else spec.fuses


def family_of(layer: Layer, graph: LayerGraph, static: set[str]) -> str:
    """Return the kernel family of one layer, "other" where the op is unknown."""
    op = op_name(layer)
    spec = spec_of(op)
    if spec is None:
        return "other"
    if spec.kernel_of is not None:
        shapes = [tuple(d.size for d in graph.tensors[name].shape) for name in layer.inputs]
        return spec.kernel_of(layer.attributes, shapes)
    if op in ("addmm", "mm", "matmul", "bmm") and _has_static_matrix(layer, graph, static):
        return "linear"
    return spec.kernel


def lower(graph: LayerGraph, fusion: Fusion) -> Lowered:
    """Return the kernels that a runtime with these fusion rules runs for `graph`, in order."""
    return _Lowering(graph, fusion).run()


def as_tuple(value: object) -> tuple[int, ...]:
    """Return a literal argument as a tuple of ints (a number stands for a square)."""
    if isinstance(value, (list, tuple)):
        return tuple(int(v) for v in value)
    return (int(value),)  # type: ignore[call-overload]


def _has_static_matrix(layer: Layer, graph: LayerGraph, static: set[str]) -> bool:
    last = layer.inputs[-1]
    return last in static and len(graph.tensors[last].shape) == 2


def takes_all(layer: Layer, graph: LayerGraph) -> bool:
    """Return whether a layer is a slice of the whole of what it reads."""
    whole = op_name(layer) == "slice"
    return whole and graph.tensors[layer.outputs[0]].shape == graph.tensors[layer.inputs[0]].shape


def _does_nothing(layer: Layer, graph: LayerGraph) -> bool:
    """Adding a literal 0, multiplying by a literal 1, a slice that takes all: every exporter drops them."""
    if takes_all(layer, graph):
        return True
    neutral = {"add": 0, "sub": 0, "mul": 1, "div": 1}.get(op_name(layer))
    other = layer.attributes.get("other")
    return neutral is not None and len(layer.inputs) == 1 and type(other) in (int, float) and other == neutral


class _Lowering:
    def __init__(self, graph: LayerGraph, fusion: Fusion) -> None:
        self.graph, self.fusion = graph, fusion
        self.readers: dict[str, list[int]] = {}
        for index, layer in enumerate(graph.layers):
            for name in dict.fromkeys(layer.inputs):
                self.readers.setdefault(name, []).append(index)
        self.static = {n for n, t in graph.tensors.items() if t.role in ("parameter", "buffer", "constant")}
        self.spelled = spelled_out(graph, self.readers, self.static, op_name)
        self.taken: set[int] = set()
        self.views: dict[str, str] = {}
        self.free: dict[str, str] = {}

    def run(self) -> Lowered:
        placed: list[tuple[int, Kernel]] = []
        for index, layer in enumerate(self.graph.layers):
            if index in self.taken:
                continue
            if index not in self.spelled and self._is_free(layer):
                continue
            kernel = self._kernel(layer)
            if index in self.spelled:
                self._spell(kernel, self.spelled[index])
            placed.append((self._absorb(kernel, index), kernel))
        placed.sort(key=lambda pair: pair[0])
        return Lowered([kernel for _, kernel in placed], self.views, self.free, self.static)

    def _is_free(self, layer: Layer) -> bool:
        if layer.inputs and all(name in self.static for name in layer.inputs):
            self.static.update(layer.outputs)
            self.free[layer.name] = "folded at export: reads no activation"
            return True
        if not layer.inputs and fuses_as(op_name(layer)) != "convolution":
            self.static.update(layer.outputs)
            self.free[layer.name] = "folded at export: a constant"
            return True
        if family_of(layer, self.graph, self.static) == "view" or _does_nothing(layer, self.graph):
            source = next(n for n in layer.inputs if n not in self.static)
            self.views.update(dict.fromkeys(layer.outputs, source))
            self.free[layer.name] = "view: no data moves"
            return True
        return False

    def _kernel(self, layer: Layer) -> Kernel:
        op = op_name(layer)
        as_convolution = fuses_as(op) == "norm" and self.fusion.norm_is_convolution
        return Kernel(
            name=layer.name,
            family="depthwise" if as_convolution else family_of(layer, self.graph, self.static),
            op=op,
            module=layer.module,
            layers=[layer],
            inputs=[n for n in layer.inputs if n not in self.static],
            weights=[n for n in layer.inputs if n in self.static],
            outputs=list(layer.outputs),
            attributes=layer.attributes,
        )

    def _spell(self, kernel: Kernel, found: SpelledOut) -> None:
        """Make a kernel of the one activation that several layers write."""
        layers = [self.graph.layers[i] for i in found.layers]
        self.taken.update(found.layers)
        kernel.op, kernel.layers = found.op, layers
        kernel.inputs, kernel.weights, kernel.outputs = [found.source], [], list(layers[-1].outputs)
        kernel.attributes = {}

    def _absorb(self, kernel: Kernel, index: int) -> int:
        """Take the layers that fold into `kernel` along; return the position at which it then runs."""
        is_convolution = fuses_as(kernel.op) == "convolution" or kernel.family == "depthwise"
        is_product = is_convolution or kernel.family == "linear"
        activated = added = False
        while (found := self._only_reader(kernel)) is not None:
            whole = self.spelled.get(found)
            layer = self.graph.layers[found if whole is None else whole.layers[-1]]
            op = op_name(layer) if whole is None else whole.op
            kind = fuses_as(op)
            if _does_nothing(layer, self.graph):
                self.free[layer.name] = "view: no data moves"
                self.taken.add(found)
                kernel.outputs = list(layer.outputs)
                continue
            if kind == "norm" and is_product and self.fusion.norm and not activated and not added:
                kernel.folded += [n for n in layer.inputs if n in self.static]
                kernel.new_bias = True
            elif kind == "activation" and not activated and self._takes_activation(op, is_product, kernel):
                activated = True
                kernel.weights += [n for n in layer.inputs if whole is None and n in self.static]
            elif op == "add" and is_convolution and self.fusion.add and not (activated or added):
                other = self._residual(layer, kernel)
                if other is None:
                    break
                kernel.inputs.append(other)
                kernel.fused_operand, added = other, True
            else:
                break
            taken = (found,) if whole is None else whole.layers
            self.taken.update(taken)
            kernel.layers += [self.graph.layers[i] for i in taken]
            kernel.fused.append(op)
            kernel.outputs = list(layer.outputs)
            index = max(index, *taken)
        return index

    def _takes_activation(self, op: str, is_product: bool, kernel: Kernel) -> bool:
        if is_product:
            return op in self.fusion.activations
        combines = kernel.op in ("add", "mul", "sub") and self.fusion.elementwise_activations
        return combines and op in self.fusion.activations

    def _only_reader(self, kernel: Kernel) -> int | None:
        if len(kernel.outputs) != 1 or kernel.outputs[0] in self.graph.outputs:
            return None
        readers = self.readers.get(kernel.outputs[0], [])
        whole = self.spelled.get(readers[0]) if readers else None
        alone = len(readers) == 1 if whole is None else set(readers) <= set(whole.layers)
        return readers[0] if alone and readers and readers[0] not in self.taken else None

    def _residual(self, layer: Layer, kernel: Kernel) -> str | None:
        others = [n for n in layer.inputs if n != kernel.outputs[0]]
        if len(layer.inputs) != 2 or len(others) != 1 or others[0] in self.static:
            return None
        same = self.graph.tensors[others[0]].shape == self.graph.tensors[kernel.outputs[0]].shape
        return others[0] if same else None
