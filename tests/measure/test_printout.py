"""What profilers write: each fixture is its reader's own, joins its network, is refused where broken."""

from __future__ import annotations

import importlib.util
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dtp_edge import load_profile
from dtp_edge.cost import NetworkCost
from dtp_edge.cost.features import FEATURES, kernel_features
from dtp_edge.cost.kernels import lower
from dtp_edge.cost.outside import FAR
from dtp_edge.cost.table import TableKernel
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.import_printouts import Setting, import_printouts, read_printouts
from dtp_edge.measure.litert_message import benchmark_message
from dtp_edge.measure.printout import MOST_BYTES, PrintedRow, Printout, Reader, open_content, readers
from dtp_edge.measure.printout_fit import Row, common_rates, kernels_of
from dtp_edge.measure.printout_fusion import fusion_of
from dtp_edge.measure.printout_join import Joined, join
from dtp_edge.measure.printout_rows import Beside, beside_of, rows_of
from dtp_edge.profiles import Profile
from dtp_edge.profiles.profile import Fusion
from dtp_edge.zoo import resolve_model
from tests.helpers.profiled import FIXTURES, profiled_network

ROOT = Path(__file__).parents[2]
READERS = readers()
OF_RESNET8 = (
    "executorch",
    "litert",
    "vela",
)  # made by tools that were given ResNet-8; the others have the helper's network
# ms of its convolutions in running order as the fixtures print them: stem, conv1, conv2, dw, pw
PRINTED = {
    "onnxruntime": None,
    "openvino": [0.019, 0.114, 0.111, 0.003, 0.008],
    "tensorrt": [
        0.0211 * 0.995 + 0.0048 * 0.995,
        0.0402 * 0.995,
        0.0418 * 0.995,
        0.0093 * 0.995,
        0.0087 * 0.995,
    ],
    "ncnn_layers": [0.21, 0.52, 0.53, 0.06, 0.11],
    "stedgeai": [1.2, 9.91, 9.91, 0.19, 0.71],
    "aihub": [312e-3 * c / 60720 for c in (9120, 15800, 16100, 8400, 4300)],
}


def files_of(reader: Reader) -> list[Path]:
    return [FIXTURES / name for name in (reader.fixture, reader.companion_fixture) if name]


@pytest.fixture(scope="module")
def networks(tmp_path_factory) -> dict[str, tuple[str, LayerGraph]]:
    path = str(profiled_network(tmp_path_factory.mktemp("net") / "net.onnx"))
    found = {}
    for key, model in (("own", path), ("resnet8", "resnet8")):
        module, inputs, _ = resolve_model(model)
        found[key] = model, trace_network(module, inputs).layers
    return found


def network_of(name: str, networks: dict[str, tuple[str, LayerGraph]]) -> tuple[str, LayerGraph]:
    return networks["resnet8" if name in OF_RESNET8 else "own"]


def joined(name: str, networks: dict[str, tuple[str, LayerGraph]]) -> Joined:
    (printout,) = read_printouts(files_of(READERS[name]))
    model, layers = network_of(name, networks)
    return join(printout, model, layers, fusion_of([printout], [layers]), printout.time_ms or 1.0)


def test_nine_readers_are_found():
    expected = "aihub executorch litert ncnn_layers onnxruntime openvino stedgeai tensorrt vela"
    assert sorted(READERS) == expected.split()


@pytest.mark.parametrize("name", READERS)
def test_a_fixture_is_its_own_readers_and_no_others(name):
    content = open_content(FIXTURES / READERS[name].fixture)
    assert [other for other, reader in READERS.items() if reader.recognises(content)] == [name]
    assert READERS[name].fixture_from
    assert READERS[name].made_by


@pytest.mark.parametrize("name", READERS)
def test_a_fixture_makes_a_profile(name, networks):
    one = joined(name, networks)
    total = sum(row.time for row in one.printout.rows) * (one.printout.time_ms or 1.0)
    assert one.total_ms == pytest.approx(total)
    assert one.loose_share < 0.06
    assert sum(one.by.values()) + len(one.loose) == len(one.printout.rows)
    made, _ = import_printouts([one.printout], [network_of(name, networks)], Setting("x"))
    assert made.runtime.name == one.printout.runtime
    assert made.error.median_relative is not None
    assert made.error.status == "indicative"  # of one network


@pytest.mark.parametrize("name", [name for name, ms in PRINTED.items() if ms])
def test_times_are_those_of_the_right_layers(name, networks):
    one = joined(name, networks)
    kernels = [i for i, k in enumerate(one.lowered.kernels) if k.layers[0].op.startswith("conv")]
    assert [one.ms.get(i) for i in kernels] == pytest.approx(PRINTED[name], rel=1e-3)


def test_onnxruntime_without_its_first_call(networks):
    one = joined("onnxruntime", networks)
    events = [e for e in json.loads((FIXTURES / "onnxruntime.json").read_text()) if e["cat"] == "Node"]
    stem = [e["dur"] for e in events if e["name"].startswith("/stem/")][1:]
    assert one.ms[0] == pytest.approx((sum(stem) / 2 + 0.5) / 1e3)


def test_what_the_runtime_fuses_is_seen(networks):
    assert fusion_of(read_printouts(files_of(READERS["openvino"])), [networks["own"][1]]).add
    assert not fusion_of(read_printouts(files_of(READERS["ncnn_layers"])), [networks["own"][1]]).add


def test_litert_csv_is_read_too(networks):
    (printout,) = read_printouts([FIXTURES / "litert.csv"])
    model, layers = networks["own"]
    one = join(printout, model, layers, fusion_of([printout], [layers]), 1.0)
    found = [one.ms.get(i) for i, k in enumerate(one.lowered.kernels) if k.layers[0].op.startswith("conv")]
    assert found == pytest.approx([0.081, 0.172, 0.174, 0.014, 0.031], rel=1e-3)


def test_litert_counts_its_calls(tmp_path):
    """The library's summary counts all calls that were profiled; an operator that runs twice counts twice."""
    path = FIXTURES / "litert.txt"
    (once,) = read_printouts([path])
    lines = path.read_text().splitlines(keepends=True)
    calls = lines[2].split()[-2]
    assert int(calls) > 1
    lines[2] = lines[2].replace(f" {calls} ", f" {2 * int(calls)} ")
    (tmp_path / "twice.txt").write_text("".join(lines))
    (twice,) = read_printouts([tmp_path / "twice.txt"])
    assert twice.rows[0].time == pytest.approx(2 * once.rows[0].time)
    assert [row.time for row in twice.rows[1:]] == [row.time for row in once.rows[1:]]
    convs = [row.time for row in once.rows if "Conv" in row.type]
    assert len(convs) == 9
    assert 0.15 < sum(convs) < 0.5  # ms, of a call that took 0.26


def test_litert_proto_says_what_its_csv_says(tmp_path):
    (printed,) = read_printouts([FIXTURES / "litert.csv"])
    message = benchmark_message(model_name="m.tflite")
    graph = message.runtime_profile.subgraph_profiles.add().per_op_profiles
    inside = message.runtime_profile.delegate_profiles.add().per_op_profiles
    for ops, kind, name, ms in (
        (graph, "TfLiteXNNPackDelegate", "[y]:12", 0.489),
        *((inside, row.type, row.names[0], row.time) for row in printed.rows),
    ):
        op = ops.add(node_type=kind, name=name, times_called=1)
        op.inference_microseconds.sum, op.inference_microseconds.count = round(50e3 * ms), 50
    path = tmp_path / "profile.pb"
    path.write_bytes(message.SerializeToString())
    (found,) = read_printouts([path])
    assert [row.names for row in found.rows] == [row.names for row in printed.rows]
    assert [row.time for row in found.rows] == pytest.approx([row.time for row in printed.rows])


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_is_cut_off_is_refused_with_its_line(name, tmp_path):
    reader = READERS[name]
    content = (FIXTURES / reader.fixture).read_bytes()
    lines = content.splitlines(keepends=True)
    kept = lines[: max(2, 2 * len(lines) // 3)]
    path = tmp_path / reader.fixture
    path.write_bytes(b"".join(kept[:-1]) + kept[-1][: len(kept[-1]) // 3])
    with pytest.raises(InputError, match=r"line \d+|column \d+") as caught:
        read_printouts([path, *files_of(reader)[1:]])
    assert caught.value.exit_code == 2


WEIRD: list[Any] = [
    None,
    True,
    -1,
    "",
    "x" * 30_000,
    1e300,
    float("nan"),
    [],
    {},
    [[]],
    {"a": 1},
    "\0",
    -1e-9,
]


def mutated(document: Any, draw: random.Random) -> Any:
    holders = [document]
    for holder in holders:
        inner = holder.values() if isinstance(holder, dict) else holder
        holders += [value for value in inner if isinstance(value, dict | list)]
    holder = draw.choice([h for h in holders if h])
    key = draw.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    holder[key] = draw.choice(WEIRD)
    return document


@pytest.mark.parametrize("name", READERS)
def test_hostile_files_are_refused_and_nothing_else(name, tmp_path):
    """Whatever is in the file, the answer is a printout or an InputError."""
    reader, draw = READERS[name], random.Random(0)
    text = (FIXTURES / reader.fixture).read_text(encoding="utf-8")
    path = tmp_path / reader.fixture
    refused: list[str] = []
    for _ in range(60):
        if text.lstrip()[:1] in "[{":
            changed = json.dumps(mutated(json.loads(text), draw))
        else:
            place = draw.randrange(len(text))
            new = draw.choice(["-7", "nan", "1e999", "\t", ";;;", ",,", "\n", "\0", "ÿ", "9" * 400, "=" * 40])
            changed = text[:place] + new + text[place + draw.randrange(12) :]
        path.write_text(changed, encoding="utf-8")
        try:
            (found,) = read_printouts([path, *files_of(reader)[1:]])
        except InputError as error:
            refused.append(str(error))
            continue
        assert isinstance(found, Printout)
        assert all(row.time >= 0 for row in found.rows)
    assert all(path.name in text or "missing among the files" in text for text in refused)
    assert refused


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"hello\n", b"\x00\x01\x02", b"a;b\n1;2\n", b'{"results": [1]}', b"\xff\xfe\x00"],
)
def test_foreign_files_are_refused(content, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a profile of a known tool|0 bytes|is empty"):
        read_printouts([path])


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(InputError, match="at most"):
        read_printouts([path])


def test_another_networks_profile_is_refused(networks):
    (printout,) = read_printouts(files_of(READERS["openvino"]))
    with pytest.raises(InputError, match="matches no layer of resnet8"):
        import_printouts([printout], [networks["resnet8"]], Setting("x"))


def test_cycles_need_a_clock(networks):
    (printout,) = read_printouts([FIXTURES / "vela.csv"])
    with pytest.raises(InputError, match="cycles of a clock"):
        import_printouts([printout], [networks["resnet8"]], Setting("x"))
    (told,) = read_printouts(files_of(READERS["vela"]))
    slow, _ = import_printouts([printout], [networks["resnet8"]], Setting("x", clock_mhz=250.0))
    fast, _ = import_printouts([told], [networks["resnet8"]], Setting("x"))  # 500 MHz, says the summary
    assert fast.precision == "int8"
    assert fast.device.chip == "Ethos_U55_128"
    assert slow.memory_bytes_per_second == pytest.approx(fast.memory_bytes_per_second / 2)


def test_a_companion_alone_and_two_runtimes_are_refused(networks):
    with pytest.raises(InputError, match="missing among the files"):
        read_printouts([FIXTURES / "vela_summary.csv"])
    both = read_printouts([FIXTURES / "openvino.csv", FIXTURES / "ncnn.txt"])
    with pytest.raises(InputError, match="cannot be combined into one"):
        import_printouts(both, [networks["own"]] * 2, Setting("x"))


def test_openvinos_report_says_what_a_call_takes(tmp_path):
    counters, report = (FIXTURES / name for name in ("openvino.csv", "openvino_report.csv"))
    (told,) = read_printouts([counters, report])
    assert told.latency_ms == 3.22
    assert read_printouts([counters])[0].latency_ms is None
    path = tmp_path / "report.csv"
    path.write_text(report.read_text().split("latency (ms)")[0])
    with pytest.raises(InputError, match="cut off") as caught:
        read_printouts([counters, path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("order", ["a A b", "a b B", "A a b", "b B a"])
def test_a_companion_belongs_to_the_nearest_of_its_tool(order, tmp_path):
    for name in "ab":
        (tmp_path / name).write_bytes((FIXTURES / "openvino.csv").read_bytes())
        (tmp_path / name.upper()).write_bytes((FIXTURES / "openvino_report.csv").read_bytes())
    found = read_printouts([tmp_path / name for name in order.split()])
    mate = next(name for name in order if name.isupper())
    assert {Path(one.path).name for one in found if one.latency_ms is not None} == {mate.lower()}


def test_a_call_is_split_into_kernels_what_is_beside_them_and_turned_layouts(networks):
    """The rows of a network in turn: what is put in beside its kernels comes out."""
    model, layers = networks["own"]
    (plain,) = read_printouts([FIXTURES / "openvino.csv"])
    fusion = fusion_of([plain], [layers])
    some = join(plain, model, layers, fusion, 1.0)
    values, rows = 3 * 64 * 64, len(plain.rows)
    turning = sum(row.ms for row in some.loose)
    assert turning > 0
    shorter = replace(plain, rows=tuple(replace(row, time=0.1 * row.time) for row in plain.rows))
    timed = [
        replace(one, latency_ms=sum(row.time for row in one.rows) + 0.02 + 0.001 * rows)
        for one in (plain, shorter)
    ]
    found = beside_of([join(one, model, layers, fusion, 1.0) for one in timed])
    assert found.call_ms + 1e-3 * found.kernel_us * rows == pytest.approx(0.02 + 0.001 * rows, rel=1e-3)
    assert found.input_ns_per_value == pytest.approx(1e6 * turning * 0.55 / values, rel=1e-6)
    mean = replace(plain, latency_ms=0.5 * sum(row.time for row in plain.rows))  # interrupted calls
    halved = rows_of([join(mean, model, layers, fusion, 1.0)], "fp32", Beside())
    for row, whole in zip(halved, rows_of([some], "fp32", Beside()), strict=True):
        assert row.us == pytest.approx(0.5 * whole.us)


def test_st_without_times_says_what_to_add():
    with pytest.raises(InputError, match="--val-json"):
        read_printouts([FIXTURES / "stedgeai.json"])


def test_the_page_is_what_the_readers_say():
    spec = importlib.util.spec_from_file_location("profilers_page", ROOT / "tools" / "profilers_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (ROOT / "docs" / "profilers.md").read_text(encoding="utf-8")


def test_readers_stay_small():
    lines = {
        path.name: path.read_text().count("\n") for path in (ROOT / "dtp_edge/measure/profilers").glob("*.py")
    }
    assert {name for name, count in lines.items() if count > 150} == set()


def told_by(profile: Profile, model: str, layers: LayerGraph) -> Printout:
    """What a profiler would print on a device that is exactly as a profile says."""
    cost = NetworkCost(layers, profile)
    rows = [
        PrintedRow((row.name,), row.kernel, row.latency_ms)
        for row in cost.by_layer(cost.dense_sizes())
        if row.fused_into is None and row.kernel != "free"
    ]
    return Printout(model, "A runtime", tuple(rows))


def test_several_networks_make_a_profile_that_predicts_another():
    device = load_profile("rpi4-tflite-fp32")
    layers = {}
    for model in ("resnet8", "resnet20", "mobilenetv2_cifar", "mobilenetv1_vww", "dscnn"):
        module, inputs, _ = resolve_model(model)
        layers[model] = trace_network(module, inputs).layers
    known = [model for model in layers if model != "dscnn"]
    printed = [told_by(device, model, layers[model]) for model in known]
    made, found = import_printouts(printed, [(model, layers[model]) for model in known], Setting("copy"))
    assert all(one.loose_share == 0 for one in found)
    assert made.error.status == "fitted"
    assert made.error.n == len(known)
    assert made.error.median_relative is not None
    assert made.error.median_relative < 0.3
    truth, copy = (NetworkCost(layers["dscnn"], profile) for profile in (device, made))
    right, predicted = (cost.evaluate(cost.dense_sizes())["latency_ms"] for cost in (truth, copy))
    assert predicted == pytest.approx(right, rel=0.25)


def test_what_no_network_shows_is_as_all_families_say():
    """Last layers alone say nothing of products with many rows: they cost what products cost elsewhere."""
    rows, rng = [], np.random.default_rng(0)
    for network in range(3):
        for kernel in range(12):
            cin, cout, side = (int(n) for n in rng.integers((16, 16, 4), (256, 256, 32)))
            macs = cin * cout * side**2
            shape = {"cin": cin, "cout": cout, "out_h": side, "out_w": side, "in_h": side, "in_w": side}
            moved = {"in_bytes": 4 * cin * side**2, "out_bytes": 4 * cout * side**2}
            whole = dict.fromkeys(FEATURES, 1.0) | {"network_bytes": 1e6, "extra_bytes": 0.0} | shape | moved
            us = 1.0 + macs / 5e4
            rows.append(
                Row("conv1x1", whole | {"macs": macs, "weight_bytes": 4 * cin * cout}, us, network, kernel)
            )
        last = {"rows": 1.0, "cin": 512.0, "cout": 10.0 + network, "batch": 1.0, "network_bytes": 1e6}
        whole = dict.fromkeys(FEATURES, 1.0) | last | {"macs": 512.0 * 10, "weight_bytes": 4 * 5120.0}
        rows.append(Row("linear", whole, 20.0, network, 12))
    kernels = kernels_of(rows, common_rates(rows), "test")
    asked = {"rows": 197.0, "cin": 768.0, "cout": 3072.0, "batch": 1.0, "network_bytes": 1e6}
    table = TableKernel.from_json(kernels["linear"], "kernels.linear")
    found = float(table.latency_us({name: np.array([value]) for name, value in asked.items()})[0])
    right = 197 * 768 * 3072 / 5e4
    assert 0.5 * right < found < 2.0 * right
    far, most = table.apart({name: np.array([value]) for name, value in asked.items()})
    assert far[0] > FAR
    assert most == ["cout"] or most == ["rows"]


def test_a_kernel_in_one_dimension_has_one_size():
    network = trace_network(
        nn.Sequential(nn.Conv1d(1, 8, 80, 16), nn.MaxPool1d(4)).eval(), (torch.randn(1, 1, 800),)
    )
    for kernel, size in zip(lower(network.layers, Fusion()).kernels, (80.0, 4.0), strict=True):
        terms = kernel_features(kernel, network.layers, "fp32")
        assert [terms[name][0][0] for name in ("kh", "kw")] == [size, 1.0]
    square = trace_network(nn.Sequential(nn.MaxPool2d(3)).eval(), (torch.randn(1, 4, 9, 9),)).layers
    terms = kernel_features(lower(square, Fusion()).kernels[0], square, "fp32")
    assert [terms[name][0][0] for name in ("kh", "kw")] == [3.0, 3.0]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.all, self.norm, self.out = nn.Linear(32, 96), nn.LayerNorm(32), nn.Linear(10, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.all(self.norm(x)).chunk(3, dim=-1)
        shares = torch.softmax(q @ k.transpose(1, 2), dim=-1)
        return self.out((shares @ v).transpose(1, 2))


def test_a_row_that_is_called_after_its_last_layer_is_the_products(tmp_path):
    """As OpenVINO prints attention: one row, in the name of what follows; a norm in two rows."""
    layers = trace_network(Attention().eval(), (torch.randn(1, 10, 32),)).layers
    names = {layer.op: layer.name for layer in layers.layers}
    products = [layer.name for layer in layers.layers if layer.op == "linear"]
    turns = ("transpose", "permute")
    last = [layer.name for layer in layers.layers if layer.op in turns]
    rows = [
        PrintedRow(("MVN_1",), "MVN", 0.2),
        PrintedRow((names["layer_norm"],), "Subgraph", 0.1),
        PrintedRow((products[0],), "FullyConnected", 1.0),
        PrintedRow((last[-1],), "Subgraph", 3.0),
        PrintedRow((products[1],), "FullyConnected", 0.5),
    ]
    printout = Printout("f", "A runtime", tuple(rows))
    one = join(printout, "net", layers, fusion_of([printout], [layers]), 1.0)
    by_op = {k.op: one.ms.get(i) for i, k in enumerate(one.lowered.kernels)}
    assert not one.loose
    assert by_op["layer_norm"] == pytest.approx(0.3)
    matmuls = [one.ms.get(i) for i, k in enumerate(one.lowered.kernels) if k.family == "matmul"]
    assert sorted(ms for ms in matmuls if ms) == [3.0]
    made = rows_of([one], "fp32", Beside())
    assert {row.key for row in made if row.us == 0} >= {"softmax.softmax"}
    kernels = kernels_of(made, common_rates(made), "test")
    assert kernels["softmax.softmax"]["overhead_ms"] == 0.0
    assert "inside other kernels" in kernels["softmax.softmax"]["source"]
    assert kernels["matmul"]["op_factor"] == {"matmul": 0.5}
