"""Timing, probes, the measurement of this machine in miniature, the kit and its import."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import onnx
import pytest

from dtp_edge.errors import InputError
from dtp_edge.measure import import_results, kit, machine, time_onnx, write_kit
from dtp_edge.measure.digest import calibrate, digest
from dtp_edge.measure.machine import Reference
from dtp_edge.measure.node_times import quiet_mean
from dtp_edge.measure.probe_builder import Builder
from dtp_edge.measure.probe_nets import probe_network
from dtp_edge.measure.procedure import Effort, collect, profile_document, stated_error
from dtp_edge.measure.profile_check import CheckedNetwork, CheckResult, check_profile
from dtp_edge.measure.timing import bind, make_session, random_feed
from dtp_edge.profiles.profile import parse_profile

FACTS = {
    "name": "test",
    "chip": "test",
    "cores": "1",
    "clock_mhz": 1000.0,
    "ram_bytes": 1e9,
    "memory_bytes_per_second": 1e10,
}


def small(channels: int) -> bytes:
    b = Builder(np.random.default_rng(0), 16, 24, 24)
    for _ in range(3):
        b.conv(channels, 3)
        b.act("Relu")
    return b.finish(16, 24, 24)


def test_time_onnx_orders_files_by_their_work(tmp_path):
    paths = []
    for channels in (16, 128):
        path = tmp_path / f"{channels}.onnx"
        path.write_bytes(small(channels))
        paths.append(path)
    light, heavy = time_onnx(paths, repeats=9)
    assert len(light.samples_ms) == light.repeats == 9
    assert light.latency_ms == pytest.approx(float(np.median(light.samples_ms)))
    assert heavy.latency_ms > 3 * light.latency_ms


@pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"no model", "refuses")])
def test_time_onnx_refuses_what_is_no_model(tmp_path, content, message):
    path = tmp_path / "x.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        time_onnx([path])


def test_probes_are_valid_deterministic_and_free_of_extreme_values():
    for seed in range(12):
        model = probe_network(seed)
        assert model == probe_network(seed)
        onnx.checker.check_model(onnx.load_from_string(model))
        session = make_session(model)
        out = np.asarray(bind(session, random_feed(session))()[0])
        assert np.isfinite(out).all()
        assert 1e-3 < np.abs(out).max() < 1e5  # subnormals would cost five times as much


def test_threads_of_one_session_do_not_wait_on_the_cores_of_the_next():
    options = make_session(small(16), 2).get_session_options()
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_calibration_undoes_the_profilers_cost():
    rng = np.random.default_rng(0)
    count = rng.integers(5, 60, 200).astype(float)
    true = rng.uniform(100, 5000, 200)
    total = true + 3.0 * count
    latency = true + 12.0
    latency[:10] *= 2.0  # interrupted
    per_node, call = calibrate(total, count, latency)
    assert per_node == pytest.approx(-3.0, abs=0.3)
    assert call == pytest.approx(12.0, abs=4.0)


def test_quiet_mean_ignores_interruptions():
    samples = np.full(40, 5.0)
    samples[::2] = 50.0
    assert quiet_mean(samples) == 5.0


def test_a_busy_machine_is_refused():
    watch = Reference.__new__(Reference)
    watch._samples = [1.0] * 5 + [3.0] * 45
    with pytest.raises(InputError, match="too busy"):
        watch.refuse_if_busy()
    watch._samples = [1.0] * 40 + [3.0] * 10
    watch.refuse_if_busy()


def test_a_process_that_seldom_has_a_processor_is_refused(monkeypatch):
    clock = {"wall": 100.0, "cpu": 3.0}
    monkeypatch.setattr(machine.time, "monotonic", lambda: clock["wall"])
    monkeypatch.setattr(machine.time, "process_time", lambda: clock["cpu"])
    share = machine.CpuShare()
    for wall, cpu, refused in ((4.0, 0.1, False), (10.0, 5.0, False), (10.0, 2.0, True)):
        clock.update(wall=100.0 + wall, cpu=3.0 + cpu)
        if refused:
            with pytest.raises(InputError, match="only 20% of the time"):
                share.refuse_if_less(0.4)
        else:
            share.refuse_if_less(0.4)


def test_the_stated_error_is_of_networks_and_tells_small_ones_apart():
    error = np.array([0.01, 0.02, 0.30, 0.03, 0.50])
    found = stated_error(error, np.array([900.0, 5000.0, 60.0, 300.0, 199.0]))
    assert found["median_relative"] == pytest.approx(0.03)
    assert found["n"] == 5
    assert found["notes"].startswith("networks under 0.2 ms: ±40.0% (median of 2, 90 % within 48%)")
    assert "notes" not in stated_error(error, np.full(5, 900.0))


def test_probes_cover_what_users_predict():
    """Small images and few MACs, as of the zoo's networks, are among the probes, and large ones."""
    sizes = []
    for seed in range(0, 40, 2):
        shape = onnx.load_from_string(probe_network(seed)).graph.input[0].type.tensor_type.shape
        sizes.append(shape.dim[2].dim_value)
    assert min(sizes) <= 32
    assert max(sizes) >= 224
    assert 2 <= sum(size <= 64 for size in sizes) <= 12


@pytest.fixture(scope="module")
def measured():
    return collect(1, Effort(probes=24, batch=24, visits=2, runs=2, least_cpu_share=0.0))


def test_miniature_measurement_makes_a_valid_profile(measured):
    digested = digest(*measured)
    profile = parse_profile(profile_document(digested, FACTS, 1, "mini", "2026-01-01"))
    assert {"conv1x1", "conv3x3", "linear"} & set(profile.kernels)
    parts = np.full(len(digested.latency_us), digested.call_us) + digested.activation_us
    for rows in digested.rows.values():
        for _, us, index in rows:
            parts[index] += us
    ratio = parts / digested.latency_us
    assert 0.6 < np.median(ratio) < 1.6  # a loaded test machine; benchmarks/host_accuracy.py is strict


def test_a_measurement_ends_with_the_batch_that_its_time_runs_out_in():
    models = [small(8 + i) for i in range(6)]
    effort = Effort(6, batch=2, visits=1, runs=1, seconds=0.0, least_cpu_share=0.0)
    times, reference = collect(1, effort, networks=models)
    assert len(times) == len(reference) == 2
    times, _ = collect(1, replace(effort, seconds=60.0), networks=models)
    assert len(times) == 6


def test_kit_runs_alone_and_its_results_become_a_profile(tmp_path):
    archive = write_kit(tmp_path / "kit.zip", probes=20)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "board")
    assert (tmp_path / "board" / "networks" / "reference.onnx").read_bytes() == machine.reference_network()
    command = [sys.executable, "measure.py", "--visits", "1", "--out", "results.json"]
    command += ["--least-cpu-share", "0"]  # a loaded test machine
    subprocess.run(command, cwd=tmp_path / "board", check=True, capture_output=True, timeout=120)
    results = tmp_path / "board" / "results.json"
    profile = import_results(results, "my-board")
    assert profile.name == "my-board"
    assert profile.provenance.source.startswith("dtp-edge profile kit")
    document = json.loads(results.read_text())
    for path, change in NONSENSE:
        broken = json.loads(json.dumps(document))
        change(broken)
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(InputError) as caught:
            import_results(tmp_path / "broken.json", "my-board")
        assert path in str(caught.value), path


def test_the_kit_refuses_a_busy_board():
    spec = importlib.util.spec_from_file_location("kit_script", kit.SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.refuse_if_busy(1.0, 4.0, 0.4)
    script.refuse_if_busy(5.0, 10.0, 0.4)
    with pytest.raises(SystemExit, match="only 30% of the time"):
        script.refuse_if_busy(3.0, 10.0, 0.4)


NONSENSE = [
    ("$.kit_version", lambda d: d.update(kit_version=1)),
    ("$.threads", lambda d: d.update(threads=0)),
    ("$.board.chip", lambda d: d["board"].update(chip=7)),
    ("$.board.ram_bytes", lambda d: d["board"].update(ram_bytes=-1.0)),
    ("$.networks[3].nodes[0].us", lambda d: d["networks"][3]["nodes"][0].update(us=math.nan)),
    ("$.networks[1].nodes[0].us", lambda d: d["networks"][1]["nodes"][0].update(us=-2)),
    ("$.networks[2].nodes[0].inputs[0]", lambda d: d["networks"][2]["nodes"][0].update(inputs=[["x"]])),
    ("$.networks[0].latency_us", lambda d: d["networks"][0].update(latency_us=1e8)),
    ("only 5 networks", lambda d: d.update(networks=d["networks"][:5])),
]


def test_check_counts_its_errors_and_draws_every_network():
    rows = [CheckedNetwork(f"n<{i}>", 1.0 + 0.1 * i, 1.0, 1.0, 0.02) for i in range(3)]
    result = CheckResult("p", tuple(rows), 0.5, 1.0, "1.0")
    assert result.median_error == pytest.approx(0.1)
    assert result.within(0.05) == pytest.approx(1 / 3)
    assert "n<2>" in result.table()
    picture = result.picture()
    assert picture.count("<circle") == 3
    assert "n<2>" not in picture  # names are escaped
    assert ">n&lt;2&gt;</text>" in picture  # outside the band of 10 %: named
    assert ">n&lt;0&gt;</text>" not in picture
    assert len(result.csv().strip().splitlines()) == 4


def test_check_profile_times_the_models_it_is_given():
    result = check_profile([("a", small(16), 1.0), ("b", small(64), 1.0)], "p", repeats=7)
    light, heavy = result.rows
    assert heavy.latency_ms > light.latency_ms > 0


def test_a_slower_machine_is_told_from_a_wrong_profile(monkeypatch):
    def two_milliseconds(runners, **_):
        for run in runners * 5:
            run()
        return np.full((len(runners), 5), 2.0)

    monkeypatch.setattr("dtp_edge.measure.profile_check.time_interleaved", two_milliseconds)
    models = [("a", small(16), 1.0)]
    plain = check_profile(models, "p", repeats=5)
    slow = check_profile(models, "p", repeats=5, reference_ms=1e-3)
    assert plain.slowdown == 1.0
    assert plain.rows[0].latency_ms == pytest.approx(2.0)
    assert slow.slowdown == pytest.approx(slow.reference_ms / 1e-3)
    assert slow.rows[0].latency_ms == pytest.approx(2.0 / slow.slowdown)
    assert "of the profile's times" in slow.summary()
    assert "of the profile's times" not in plain.summary()


@pytest.mark.parametrize("index", [88, *range(0, 240, 40)])
def test_every_probe_runs(index: int) -> None:
    """Probe 88 is a transformer of a small image: its patches were larger than that."""
    session = make_session(probe_network(index), 1)
    (out,) = bind(session, random_feed(session))()
    assert np.isfinite(np.asarray(out)).all()


def test_no_probe_multiplies_subnormals() -> None:
    """Where attention is certain of its choice, the other probabilities are subnormals: on some processors a
    product with those takes thirty times as long, and no network was meant by that."""
    seen = 0
    for seed in range(80):
        model = onnx.load_from_string(probe_network(seed))
        sharp = [node.output[0] for node in model.graph.node if node.op_type == "Softmax"]
        if not sharp or seen == 5:
            continue
        seen += 1
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in sharp)
        session = make_session(model.SerializeToString(), 1)
        for found in session.run(sharp, random_feed(session)):
            smallest = found[found > 0].min()
            assert smallest > 1e3 * np.finfo(np.float32).tiny, f"probe {seed}: {smallest}"
    assert seen == 5
