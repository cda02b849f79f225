"""Inputs that are nearly right: good files of every kind that is read, changed at random.

`TARGETS` names what is fuzzed: each makes one input from a source of choices, writes it and reads it as a
user's command would. What is wrong must come back as `DtpEdgeError`; anything else is a fault.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save
from torch import nn

from benchmarks.problems.keeps import random_keep
from dtp_edge.archive import load_pruned, save_pruned
from dtp_edge.errors import DtpEdgeError
from dtp_edge.fitting.own_latencies import read_measured
from dtp_edge.fitting.rows import read_csv
from dtp_edge.graph import trace_network
from dtp_edge.measure import import_results, load_profile
from dtp_edge.onnx.reader import load_onnx
from dtp_edge.report import read_report
from dtp_edge.surgery import compact
from dtp_edge.zoo import load_weights
from helpers import giants

VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        7,
        2**31,
        -(2**31),
        2**63,
        10**30,
        10**400,
        1e-320,
        0.5,
        -0.0,
        1e300,
    ),
    *(
        "",
        "a",
        "\x00",
        "é",
        "\ud800",
        "nan",
        "x" * 2000,
        "graph",
        "training",
        "class",
        '"',
        "aten.relu.default",
    ),
    *(
        [],
        {},
        [[]],
        [1, 2, 3],
        {"a": 1},
        [0] * 70,
        {"node": "x"},
        {"tuple": []},
        {"float": "nan"},
        {"slice": [1]},
    ),
)


class Case:
    """One case: random choices, and a folder to write in."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder = random.Random(seed), folder

    def mutated_json(self, document: Any) -> str:
        """Return a document with one to four values replaced, removed, repeated, swapped or renamed."""
        document = copy.deepcopy(document)
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            self._mutate(document)
        text = json.dumps(document)
        return text if self.random.random() < 0.9 else self.mutated_bytes(text.encode()).decode("latin-1")

    def _mutate(self, document: Any) -> None:
        places = [(document, key) for key in _keys(document)]
        for holder, key in places:
            places += [(holder[key], inner) for inner in _keys(holder[key])][:200]
            if len(places) > 3000:
                break
        if not places:
            return
        holder, key = self.random.choice(places)
        how = self.random.randrange(6)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif how == 2 and isinstance(holder, dict):
            holder[str(self.random.choice(VALUES))[:1500]] = holder.pop(key)
        elif how == 3:
            other, name = self.random.choice(places)
            if name in _keys(other):
                holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = copy.deepcopy(self.random.choice(VALUES))

    def mutated_bytes(self, content: bytes) -> bytes:
        """Return bytes with some changed, cut, doubled or inserted."""
        raw = bytearray(content)
        for _ in range(self.random.choice((1, 1, 3, 20))):
            if not raw:
                break
            at = self.random.randrange(len(raw))
            end = min(len(raw), at + self.random.choice((1, 4, 8, 100)))
            how = self.random.randrange(5)
            if how == 0:
                raw[at] ^= 1 << self.random.randrange(8)
            elif how == 1:
                raw[at:end] = self.random.randbytes(end - at)
            elif how == 2:
                del raw[at:end]
            elif how == 3:
                raw[at:at] = raw[at:end]
            else:
                del raw[at:]
        return bytes(raw)


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []


def _profile(case: Case) -> None:
    good = giants.profile()
    if case.random.random() < 0.3:
        rows = [[1.0 + i, 2.0, 3.0 + i] for i in range(4)]
        base = {
            "us_per": {"one": 1.0},
            "coordinates": {"rows": 0.5},
            "amplitude": 0.3,
            "noise": 0.1,
            "grain_us": 1.0,
        }
        table = {"form": "table", "columns": ["rows", "cin", "us"], "rows": rows, "base": base, "source": "s"}
        good["kernels"]["linear"] = table
    (case.folder / "p.json").write_text(case.mutated_json(good), errors="surrogatepass")
    load_profile(case.folder / "p.json")


def _kit(case: Case) -> None:
    networks = [copy.deepcopy(giants.NETWORK) for _ in range(22)]
    (case.folder / "r.json").write_text(
        case.mutated_json({**giants.KIT, "networks": networks}), errors="surrogatepass"
    )
    import_results(case.folder / "r.json", case.random.choice(("board", "", "Ü/")))


def _report(case: Case) -> None:
    example = Path(__file__).parents[1] / "report" / "example_report.json"
    text = case.mutated_json(json.loads(example.read_text()))
    (case.folder / "report.json").write_text(text, errors="surrogatepass")
    read_report(case.folder)


def _table(case: Case) -> None:
    latencies = "network,latency_ms,family\n" + "".join(f"n{i},{i + 1}.5,f{i % 3}\n" for i in range(6))
    head = "net,layer,type,kind,cin,cout,kh,kw,sh,sw,groups,macs,params,in_elems,out_elems,hout,wout\n"
    layers = head + "".join(
        f"n{i},l,Convolution,conv,3,{8 * i + 8},3,3,1,1,1,1e6,216,3072,8192,32,32\n" for i in range(6)
    )
    both = [latencies.encode(), layers.encode()]
    which = case.random.randrange(2)
    both[which] = case.mutated_bytes(both[which])
    if case.random.random() < 0.3:
        word = case.random.choice(VALUES)
        both[which] = both[which].replace(b"1", str(word)[:300].encode("utf-8", "replace"), 2)
    for name, content in zip(("t.csv", "l.csv"), both, strict=True):
        (case.folder / name).write_bytes(content)
    read_csv(case.folder / "t.csv")
    read_measured(case.folder / "t.csv", case.folder / "l.csv", load_profile("rpi4-ncnn-fp32-1t"))


@functools.cache
def _pruned_files() -> tuple[bytes, str]:
    import tempfile

    torch.manual_seed(0)
    parts = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.Hardswish()]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    traced = trace_network(model, (torch.randn(1, 3, 8, 8),))
    keep = random_keep(traced, 0.5, 1)
    with tempfile.TemporaryDirectory() as folder:
        weights, widths = save_pruned(folder, compact(traced, keep), traced, keep)
        return weights.read_bytes(), widths.read_text()


def _pruned(case: Case) -> None:
    weights, widths = _pruned_files()
    document = json.loads(widths)
    if case.random.random() < 0.3:
        weights = case.mutated_bytes(weights)
    if case.random.random() < 0.5:  # past the first door
        document.pop("weights_sha256"), document.update(version=1)
        names = (
            "aten.add.Tensor",
            "aten.cat.default",
            "aten.view.default",
            "aten.lstm.input",
            "aten.index.Tensor",
        )
        call = case.random.choice([n for n in document["graph"] if n["op"] == "call_function"])
        call["target"] = case.random.choice((call["target"], *names))
    (case.folder / "model.safetensors").write_bytes(weights)
    (case.folder / "widths.json").write_text(case.mutated_json(document), errors="surrogatepass")
    module = load_pruned(case.folder, any_weights=case.random.random() < 0.7)
    assert isinstance(module, nn.Module)
    shapes = document["inputs"]
    # what loads may fail on an input (its values are another's), but not end the process
    with contextlib.suppress(RuntimeError, TypeError, ValueError, IndexError, NotImplementedError):
        module(*(torch.zeros(x["shape"]) for x in shapes))


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.register_buffer("steps", torch.zeros(2, dtype=torch.int32))


def _checkpoint(case: Case) -> None:
    state: dict[str, Any] = dict(_Small().state_dict())
    odd = (
        *(
            torch.zeros(4, 4, dtype=torch.complex64),
            torch.ones(4, 4, dtype=torch.int8),
            torch.eye(4).to_sparse(),
        ),
        *(
            torch.full((4, 4), float("nan")),
            torch.zeros(4).expand(4, 4),
            torch.zeros(0),
            np.float64(1),
            "a",
            None,
        ),
        *(
            torch.zeros(4, 4).to(torch.float8_e5m2),
            {"x": torch.ones(2)},
            np.ones((4, 4)),
            torch.empty(1, device="meta"),
        ),
    )
    for _ in range(case.random.randrange(3)):
        state[case.random.choice([*state, "extra", "total_ops", "loss.w", 7])] = case.random.choice(odd)  # type: ignore[index]
    name = case.random.choice(("w.pt", "w.safetensors"))
    if name == "w.safetensors":
        content = save({str(k): v for k, v in _Small().state_dict().items()})
    else:
        wrapped = case.random.choice(
            (state, {"model": state, "epoch": 3}, {"a": {"b": {"c": state}}}, [state])
        )
        stream = io.BytesIO()
        torch.save(wrapped, stream, _use_new_zipfile_serialization=case.random.random() < 0.7)
        content = stream.getvalue()
    if case.random.random() < 0.6:
        content = case.mutated_bytes(content)
    (case.folder / name).write_bytes(content)
    load_weights(_Small(), case.folder / name)


@functools.cache
def _onnx_file() -> bytes:
    rng = np.random.default_rng(0)
    tensors = {"w": (8, 3, 3, 3), "b": (8,), "v": (4, 8, 1, 1)}
    inits = [numpy_helper.from_array(rng.standard_normal(s).astype("f"), n) for n, s in tensors.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["m", "v"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", 1, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", 1, [1, 4, 1, 1])
    graph = helper.make_graph(nodes, "g", [x], [y], inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def _onnx(case: Case) -> None:
    content = _onnx_file()
    if case.random.random() < 0.5:
        content = case.mutated_bytes(content)
    else:
        model = onnx.load_from_string(content)
        node = case.random.choice(model.graph.node)
        names = ["x", "w", "b", "c", "r", "m", "d", "y", "in", "class", ""]
        place = case.random.choice((node.input, node.output))
        place[case.random.randrange(len(place))] = case.random.choice(names)
        node.op_type = case.random.choice(
            (node.op_type, "Add", "Reshape", "Gather", "Resize", "Nothing", "Pad")
        )
        for attribute in node.attribute:
            if attribute.ints:
                attribute.ints[0] = case.random.choice((0, -1, 2**31, 3))
        if case.random.random() < 0.3:
            shape = model.graph.input[0].type.tensor_type.shape
            shape.dim[case.random.randrange(4)].dim_value = case.random.choice((0, -1, 5, 2**40))
        content = model.SerializeToString()
    (case.folder / "m.onnx").write_bytes(content)
    load_onnx(str(case.folder / "m.onnx"), None)


TARGETS: dict[str, Callable[[Case], None]] = {
    "profile": _profile,
    "kit": _kit,
    "report": _report,
    "table": _table,
    "pruned": _pruned,
    "checkpoint": _checkpoint,
    "onnx": _onnx,
}


def attempt(target: str, seed: int, folder: Path) -> str:
    """Try one case: "read" or "refused". Anything but `DtpEdgeError` comes through, with the seed noted."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            TARGETS[target](Case(seed, folder))
    except DtpEdgeError as error:
        if error.exit_code != 2 or not error.hint:
            raise AssertionError(f"{target}, seed {seed}: exit code {error.exit_code}: {error}") from error
        return "refused"
    except Exception as error:
        error.add_note(f"{target}, seed {seed}")
        raise
    return "read"
