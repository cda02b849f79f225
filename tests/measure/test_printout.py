"""What profilers write: each fixture is its reader's own, joins its network, is refused where broken."""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

import pytest

from dtp_edge import load_profile
from dtp_edge.cost import NetworkCost
from dtp_edge.errors import InputError
from dtp_edge.graph import trace_network
from dtp_edge.graph.layers import LayerGraph
from dtp_edge.measure.import_printouts import Setting, import_printouts, read_printouts
from dtp_edge.measure.printout import MOST_BYTES, PrintedRow, Printout, Reader, open_content, readers
from dtp_edge.measure.printout_join import Joined, fusion_of, join
from dtp_edge.profiles import Profile
from dtp_edge.zoo import resolve_model
from tests.helpers.profiled import FIXTURES, profiled_network

ROOT = Path(__file__).parents[2]
READERS = readers()
OF_RESNET8 = (
    "executorch",
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
    "litert": [0.081, 0.172, 0.174, 0.014, 0.031],
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


def test_litert_proto_says_what_its_csv_says(tmp_path):
    from dtp_edge.measure.profilers.litert import _benchmark

    (printed,) = read_printouts([FIXTURES / "litert.csv"])
    message = _benchmark()(model_name="m.tflite")
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
