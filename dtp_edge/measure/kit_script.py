#!/usr/bin/env python3
"""Measure this board for dtp_edge. Needs Python 3.8, numpy and onnxruntime; writes results.json.

python measure.py [--threads 1] [--out results.json] [--limit N] [--seconds 600] [--visits 5]
"""

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

RUNS, WARM = 4, 2
SETTLE_SECONDS = 5.0
LOW, HIGH = 0.1, 0.4  # quantiles between which a sample counts: nothing else ran then


def main():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", default="results.json")
    parser.add_argument("--limit", type=int, default=0, help="measure only so many networks")
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after about so long")
    parser.add_argument("--visits", type=int, default=5, help="rounds of runs of each network")
    parser.add_argument("--least-cpu-share", type=float, default=0.4, help="of a processor, or stop")
    options = parser.parse_args()
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text())
    names = manifest["networks"][: options.limit or None]
    reference = runner(folder / "networks" / "reference.onnx", options.threads)[0]
    networks, started, used = [], time.time(), time.process_time()
    for number, name in enumerate(names, 1):
        networks.append(measure(folder / "networks" / name, options.threads, reference, options.visits))
        print(f"{number}/{len(names)} networks, {time.time() - started:.0f} s", flush=True)
        refuse_if_busy(time.process_time() - used, time.time() - started, options.least_cpu_share)
        if time.time() - started > options.seconds:
            break
    # every network's reference time is that of its own minute: a hot board slows down
    result = {
        "kit_version": manifest["kit_version"],
        "date": time.strftime("%Y-%m-%d"),
        "threads": options.threads,
        "board": board(),
        "networks": networks,
    }
    temporary = options.out + ".tmp"
    with open(temporary, "w") as stream:
        json.dump(result, stream)
    os.replace(temporary, options.out)
    print(f"wrote {options.out}: bring it back to `dtp-edge profile import`")


def refuse_if_busy(cpu_seconds, seconds, least):
    """Stop where other programs take most of the processor: such times say nothing of the board."""
    if seconds >= SETTLE_SECONDS and cpu_seconds < least * seconds:
        share = cpu_seconds / seconds
        raise SystemExit(
            f"error: other programs left this one the processor for only {share:.0%} of the time\n"
            "next: Stop them and run it again; nothing was written."
        )


def runner(path, threads, prefix=None):
    """Return (call, session) for one network on random inputs."""
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    settings.log_severity_level = 3
    if threads > 1:  # one network's waiting threads would take the cores of the next
        settings.add_session_config_entry("session.force_spinning_stop", "1")
    if prefix:
        settings.enable_profiling = True
        settings.profile_file_prefix = prefix
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    feed = {i.name: rng.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}
    return (lambda: session.run(None, feed)), session


def measure(path, threads, reference, visits):
    """Time one network: calls without the profiler, nodes with it, the reference in between."""
    with tempfile.TemporaryDirectory() as folder:
        free = runner(path, threads)[0]
        watched, session = runner(path, threads, os.path.join(folder, "p"))
        calls, standard = [], []
        for _ in range(visits):
            standard += samples(reference, RUNS)
            for _ in range(RUNS + WARM):
                watched()
            calls += samples(free, RUNS)
        with open(session.end_profiling()) as stream:
            events = json.load(stream)
    low, middle, high = np.percentile(calls, [25, 50, 75])
    return {
        "network": path.name,
        "latency_us": quiet(calls),
        "spread": float((high - low) / middle),
        "reference_ms": quiet(standard) / 1e3,
        "nodes": nodes_of(events),
    }


def nodes_of(events):
    """Return the nodes with their times, from the runs that nothing disturbed."""
    found = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found.setdefault((event["args"]["node_index"], event["name"]), []).append(event)
    times = np.array([[e["dur"] for e in seen] for seen in found.values()], dtype=float)
    times = times[:, np.arange(times.shape[1]) % (RUNS + WARM) >= WARM]
    order, count = np.argsort(times.sum(axis=0)), times.shape[1]
    low = int(LOW * count)
    times = times[:, order[low : max(low + 1, round(HIGH * count))]].mean(axis=1)
    result = []
    for index, ((_, name), seen) in enumerate(found.items()):
        blocked = name.endswith("_nchwc_kernel_time")
        args = seen[0]["args"]
        result.append(
            {
                "op": args["op_name"],
                "activation": activation(name) if blocked or args["op_name"].startswith("Fused") else "",
                "blocked": blocked,
                "inputs": shapes(args.get("input_type_shape", [])),
                "outputs": shapes(args.get("output_type_shape", [])),
                "us": float(times[index]) + 0.5,  # the profiler rounds whole microseconds down
            }
        )
    return result


def activation(name):
    return name.split("_act_")[1].split("_")[0] if "_act_" in name else ""


def shapes(entries):
    return [list(next(iter(entry.values()))) for entry in entries if entry]


def samples(run, count):
    for _ in range(WARM):
        run()
    result = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        result.append(1e6 * (time.perf_counter() - start))
    return result


def quiet(values):
    """Return the mean between two low quantiles."""
    ordered = np.sort(np.asarray(values, dtype=float))
    low = int(LOW * len(ordered))
    return float(ordered[low : max(low + 1, round(HIGH * len(ordered)))].mean())


def board():
    info = {}
    try:
        with open("/proc/cpuinfo", errors="replace") as stream:
            info = dict(reversed([[p.strip() for p in s.split(":", 1)] for s in stream if ":" in s]))
    except OSError:
        pass
    chip = info.get("Model") or info.get("model name") or info.get("Hardware") or info.get("CPU part")
    try:
        ram = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        ram = float(1 << 30)
    clock = 0.0
    try:
        with open("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq") as stream:
            clock = float(stream.read()) / 1e3
    except (OSError, ValueError):
        pass
    return {
        "name": platform.node()[:60] or "board",
        "chip": (chip or platform.machine() or "unknown")[:200],
        "cores": f"{os.cpu_count()} x {platform.machine()}",
        "runtime_version": ort.__version__,
        "clock_mhz": clock or float(info.get("cpu MHz", 1000.0)),
        "ram_bytes": ram,
        "memory_bytes_per_second": bandwidth(),
    }


def bandwidth():
    source = np.ones(1 << 22, dtype=np.float32)
    target, best = np.empty_like(source), float("inf")
    for _ in range(7):
        start = time.perf_counter()
        np.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    return 2.0 * source.nbytes / best


if __name__ == "__main__":
    main()
