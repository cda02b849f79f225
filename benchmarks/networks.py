"""Coverage: does it work on any network? One row a network, each in a child process with limits.

    python -m benchmarks.networks torchvision            # all 80 classifiers
    python -m benchmarks.networks timm                   # the smallest network of each timm module
    python -m benchmarks.networks timm-all --total-s 600 # as many of all of timm's, in random order
    python -m benchmarks.networks tasks                  # segmentation, detection, a YOLO-like network
    python -m benchmarks.networks torchvision --only resnet18,swin_t --no-onnx
    python -m benchmarks.networks --table                # write the table from the rows that are there

Every weight, norm statistic, head and scale is random (trained or initial values can hide an error: a
zero-initialised head makes any two networks equal). MACs are cut to 50 %, the same share of every group, and
counted by torch's own FLOP counter on what came out. A row passes if masked == compact to 1e-4 in float32 and
1e-9 in float64, torch == ONNX Runtime to 1e-4 (where random weights magnify the rounding of float32, float64
decides, and the row says so), and the MACs are at most 50 %. `moved` says how much pruning
changed the output: were it 0, equality would prove nothing.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import gc
import json
import multiprocessing as mp
import os
import platform
import resource
import signal
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.experiments import EXPERIMENTS
from benchmarks.subjects import build, names

NETWORKS = EXPERIMENTS["networks"]
_PATIENCE = 20  # wall seconds a CPU second: on a busy machine a child waits
# networks of each suite when the rows were made: torchvision 0.29.2, timm 1.0.31
SIZES = {"torchvision": 80, "timm": 86, "tasks": 6, "timm-all": 1371}


@dataclasses.dataclass
class Row:
    """What happened to one network."""

    suite: str
    name: str
    status: str = "failed"  # ok, refused (named reason), failed, wrong (unequal: must never happen)
    reason: str = ""
    params_m: float = 0.0
    groups: int = 0
    atoms: int = 0
    frozen: int = 0
    frozen_reasons: list[str] = dataclasses.field(default_factory=list)
    frozen_parts: list[str] = dataclasses.field(default_factory=list)  # "name: reason", the first 40
    prunes: str = ""  # how many groups of each kind
    macs_ratio: float = 0.0
    err32: float = -1.0
    err64: float = -1.0
    err_onnx: float = -1.0
    onnx_detail: str = ""  # where float64 had to decide, or what is wrong
    moved: float = -1.0
    stored: str = ""  # "yes" if the compact graph can be written as plain JSON, else why not
    kind: str = ""
    kind_reason: str = ""
    export_s: float = 0.0  # torch.export
    graph_s: float = 0.0  # labels and groups
    surgery_s: float = 0.0  # cutting the graph
    in_place_s: float = 0.0  # cutting and verifying the user's module
    peak_mb: float = 0.0
    date: str = ""
    machine: str = ""
    commit: str = ""


def random_order(network: Any, seed: int = 0) -> np.ndarray:
    """Return a number in [0, 1) an atom: its rank within its group by a random order; 0 always stays."""
    rng = np.random.default_rng(seed)
    order = np.zeros(network.n_atoms)
    for g in network.groups:
        order[g.start : g.stop] = rng.permutation(g.stop - g.start) / (g.stop - g.start)
    return order


def macs(layers: Any, sizes: np.ndarray) -> float:
    """Return the multiplications of convolutions, linear layers and matrix products at these widths."""

    def shape(name: str) -> list[float]:
        dims = layers.tensors[name].shape
        return [d.size if d.width is None else d.scale * sizes[d.width] for d in dims]

    total = 0.0
    for layer in layers.layers:
        if not layer.outputs or not layer.inputs:
            continue
        out = float(np.prod(shape(layer.outputs[0])))
        if layer.op.startswith("conv"):
            weight = shape(layer.inputs[1])
            inside = float(np.prod(shape(layer.inputs[0]))) if layer.attributes.get("transposed") else out
            total += inside * float(np.prod(weight[1:]))
        elif layer.op in ("linear", "matmul", "bmm", "mm", "addmm", "baddbmm"):
            total += out * shape(layer.inputs[0])[-1]
        elif layer.op == "scaled_dot_product_attention":
            q, k = shape(layer.inputs[0]), shape(layer.inputs[1])
            total += 2 * float(np.prod(q)) * k[-2]
    return total


def keep_for(network: Any, share: float) -> np.ndarray:
    """Return the keep vector that cuts the same part of every group so that MACs fall to `share`."""
    order = random_order(network)
    dense = macs(network.layers, network.layers.sizes(np.ones(network.n_atoms)))
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        keep = (order < middle) | (order == 0)
        fits = macs(network.layers, network.layers.sizes(keep.astype(float))) <= share * dense
        low, high = (middle, high) if fits else (low, middle)
    return (order < low) | (order == 0)


def counted(module: torch.nn.Module, inputs: tuple[Any, ...]) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(*inputs)
    return counter.get_total_flops()


def examine(suite: str, name: str, with_onnx: bool, double: bool) -> Row:
    """Prune one network and prove it; a refusal is a row with its reason."""
    from dtp_edge.errors import DtpEdgeError

    row = Row(suite, name, date=datetime.date.today().isoformat(), machine=machine())
    try:
        _examine(row, with_onnx, double)
    except DtpEdgeError as error:
        row.status, row.reason = "refused" if error.exit_code != 4 else "wrong", error.message()[:400]
    except Exception as error:
        row.status, row.reason = "failed", f"{type(error).__name__}: {str(error)[:300]}"
        if os.environ.get("TRACEBACK"):
            import traceback

            traceback.print_exc()
    row.peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return row


def _examine(row: Row, with_onnx: bool, double: bool) -> None:
    from dtp_edge.graph.build import label_network
    from dtp_edge.graph.trace import trace
    from dtp_edge.proof.equality import check_masked_equals_compact, randomise_tensors
    from dtp_edge.surgery.compaction import compact

    model, inputs = build(row.suite, row.name)
    model.eval()
    row.params_m = round(sum(p.numel() for p in model.parameters()) / 1e6, 2)
    start = time.perf_counter()
    graph_module, fixed = trace(model, inputs)
    row.export_s = time.perf_counter() - start
    start = time.perf_counter()
    network = label_network(model, graph_module, inputs, dynamic_batch=fixed is None)
    row.graph_s = time.perf_counter() - start
    row.groups, row.atoms, row.frozen = len(network.groups), network.n_atoms, len(network.frozen)
    row.frozen_reasons = sorted({f.reason.split(" (")[0] for f in network.frozen})
    row.frozen_parts = [f"{f.name}: {f.reason}" for f in network.frozen][:40]
    kinds = collections.Counter(g.kind for g in network.groups)
    row.prunes = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    randomise_tensors(network)
    dense = counted(network.graph_module, inputs)
    keep = _cut_to_half(row, network, inputs, dense)
    start = time.perf_counter()
    result = compact(network, keep)
    row.in_place_s = time.perf_counter() - start - row.surgery_s
    row.kind, row.kind_reason = result.kind, result.reason or ""
    row.stored = _stored(result)
    check = check_masked_equals_compact(network, keep, result, seeds=(0,))
    row.err32, row.moved = check.value, _moved(network, result)
    if not check.passed:
        row.status, row.reason = "wrong", check.detail
        return
    if with_onnx:
        _onnx(row, result, inputs)
    if double:
        del result, model, graph_module
        twin = in_double(network)
        row.err64 = _double_check(twin, keep, compact(twin, keep, in_place=False))
    _judge(row, with_onnx, double)


def in_double(network: Any) -> Any:
    """Return the network in float64, its own tensors converted: large networks have no room for a copy."""
    from dtp_edge.proof.equality import convert_literals, graph_tensors

    for tensor in graph_tensors(network).values():
        if tensor.dtype == torch.float32:
            tensor.data = tensor.data.double()
    convert_literals(network.graph_module, torch.float64)
    inputs = tuple(x.double() if x.is_floating_point() else x for x in network.example_inputs)
    return dataclasses.replace(network, module=network.graph_module, example_inputs=inputs)


def _double_check(twin: Any, keep: np.ndarray, cut: Any) -> float:
    from dtp_edge.graph import MaskedNetwork
    from dtp_edge.graph.leaves import leaves, random_like
    from dtp_edge.surgery.difference import relative_error

    inputs = random_like(twin.example_inputs, 5, torch.float64)
    with torch.no_grad():
        wanted = leaves(MaskedNetwork(twin, keep).eval()(*inputs))
        return relative_error(wanted, leaves(cut.graph_module.eval()(*inputs)))


def _cut_to_half(row: Row, network: Any, inputs: tuple[Any, ...], dense: int) -> np.ndarray:
    """Cut until torch's counter says at most 50 %: the layer list does not know every operator."""
    from dtp_edge.errors import BudgetError
    from dtp_edge.surgery.compaction import compact

    share = 0.5
    for _ in range(6):
        keep = keep_for(network, share)
        start = time.perf_counter()
        cut = compact(network, keep, in_place=False)
        row.surgery_s = time.perf_counter() - start
        row.macs_ratio = counted(cut.graph_module.eval(), inputs) / max(dense, 1)
        if row.macs_ratio <= 0.5:
            return keep
        share *= 0.45 / row.macs_ratio
    raise BudgetError(f"MACs can only be cut to {100 * row.macs_ratio:.0f} %")


def _moved(network: Any, result: Any) -> float:
    from dtp_edge.graph.leaves import leaves, random_like
    from dtp_edge.surgery.difference import relative_error

    inputs = random_like(network.example_inputs, 0)
    with torch.no_grad():
        return relative_error(
            leaves(network.graph_module(*inputs)), leaves(result.graph_module.eval()(*inputs))
        )


def _stored(result: Any) -> str:
    from dtp_edge.archive.graph_json import graph_from_json, graph_to_json
    from dtp_edge.errors import UnsupportedError

    try:
        nodes = json.loads(json.dumps(graph_to_json(result.graph_module.graph)))
        graph_from_json(nodes, {n["target"] for n in nodes if n["op"] == "get_attr"})
    except UnsupportedError as error:
        return error.message()
    return "yes"


def _onnx(row: Row, result: Any, inputs: tuple[Any, ...]) -> None:
    from dtp_edge.onnx import check_onnx, export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(result.module, inputs, Path(folder) / "model.onnx")
        check = check_onnx(path, result.module, inputs, seeds=(0,))
    row.err_onnx = check.value
    row.onnx_detail = check.detail if "float64" in check.detail else ""
    if not check.passed:
        row.onnx_detail = f"torch != ONNX Runtime ({check.value:.1e})"


def _judge(row: Row, with_onnx: bool, double: bool) -> None:
    faults = []
    if row.err32 > 1e-4 or (double and row.err64 > 1e-9):
        faults.append(f"masked != compact ({row.err32:.1e} / {row.err64:.1e})")
    if with_onnx and "!=" in row.onnx_detail:
        faults.append(row.onnx_detail)
    if row.moved < 1e-3:
        faults.append("pruning moved nothing, so equality proves nothing")
    row.status, row.reason = ("wrong", "; ".join(faults)) if faults else ("ok", "")


def machine() -> str:
    return f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


def _child(
    queue: Any, suite: str, name: str, onnx: bool, double: bool, limit_s: float, limit_gb: float
) -> None:
    size = int(limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit_s), int(limit_s) + 1))
    torch.set_num_threads(1)
    queue.put(examine(suite, name, onnx, double))


def warm_up() -> None:
    """Import and set up everything once, so that children inherit it.

    Only traces: what computes starts threads, and those do not survive a fork.
    """
    import timm  # noqa: F401
    import torchvision  # noqa: F401

    from dtp_edge.graph import trace_network
    from dtp_edge.onnx import export_onnx

    model, inputs = build("warm-up", "")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        trace_network(model.eval(), inputs)
        export_onnx(model, inputs, Path(folder) / "model.onnx")
    gc.collect()
    gc.freeze()


def run(suite: str, name: str, args: argparse.Namespace) -> Row:
    """Examine one network in a child; one that dies or takes too long is a row as well."""
    context = mp.get_context("fork")
    queue = context.Queue()
    limits = (args.onnx, args.double, args.limit_s, args.limit_gb)
    child = context.Process(target=_child, args=(queue, suite, name, *limits))
    start = time.perf_counter()
    child.start()
    row = None
    while row is None and time.perf_counter() - start < _PATIENCE * args.limit_s:
        try:
            row = queue.get(timeout=0.5)
        except Exception:
            if not child.is_alive():
                break
    child.join(1)
    if child.is_alive():
        child.kill()
    if row is None:
        slow = child.exitcode == -signal.SIGXCPU or time.perf_counter() - start >= _PATIENCE * args.limit_s
        why = f"more than {args.limit_s} s" if slow else f"died, exit code {child.exitcode}"
        row = Row(suite, name, reason=why, date=datetime.date.today().isoformat(), machine=machine())
    return row


def read_rows() -> dict[tuple[str, str], Row]:
    """Return the newest row of every network."""
    known = {f.name for f in dataclasses.fields(Row)}
    rows = [Row(**{k: v for k, v in row.items() if k in known}) for row in NETWORKS.read()]
    return {(r.suite, r.name): r for r in rows}


def whole_page() -> str:
    """The table and its summary from the rows that are there."""
    rows = read_rows()
    lines = ["# Coverage: any network", "", __doc__.split("\n\n")[2].replace("\n", " "), ""]
    for suite in ("torchvision", "timm", "tasks", "timm-all"):
        part = [r for (s, _), r in sorted(rows.items()) if s == suite]
        if not part:
            continue
        count = {k: sum(r.status == k for r in part) for k in ("ok", "refused", "failed", "wrong")}
        proved = sum(r.status == "ok" and r.err_onnx >= 0 for r in part)
        lines += [
            f"## {suite}: {count['ok']} exact of {len(part)} run, of {SIZES[suite]} in the suite",
            "",
            f"torch == ONNX Runtime was seen for {proved} of them (an empty column: not run). "
            f"As plain JSON: {sum(r.stored == 'yes' for r in part)}. "
            f"Refused with a reason {count['refused']}, failed {count['failed']}, wrong {count['wrong']}; "
            f"{part[-1].date}, {part[-1].machine}. Medians: torch.export {_median(part, 'export_s')} s, "
            f"labels and groups {_median(part, 'graph_s')} s, surgery {_median(part, 'surgery_s')} s.",
            "",
            "| network | status | M params | groups it prunes | atoms | frozen | MACs | err f32 | err f64 |"
            " err ONNX | moved | result | export s | labels s | surgery s | in place s | peak MB | reasons |",
            "|" + "---|" * 18,
        ]
        lines += [_line(r) for r in part]
        lines.append("")
    return "\n".join(lines)


def _median(rows: list[Row], field: str) -> str:
    return f"{np.median([getattr(r, field) for r in rows]):.2f}"


def _line(r: Row) -> str:
    def err(x: float) -> str:
        return "" if x < 0 else f"{x:.0e}"

    reasons = "; ".join(x for x in [r.reason, r.onnx_detail, *r.frozen_reasons, r.kind_reason] if x)
    reasons = reasons.replace("|", "/").replace("\n", " ")[:300]
    return (
        f"| {r.name} | {r.status} | {r.params_m} | {r.prunes or r.groups} | {r.atoms} | {r.frozen} |"
        f" {r.macs_ratio:.3f} | {err(r.err32)} | {err(r.err64)} | {err(r.err_onnx)} | {r.moved:.2f} |"
        f" {r.kind} | {r.export_s:.1f} | {r.graph_s:.2f} | {r.surgery_s:.2f} | {r.in_place_s:.2f} |"
        f" {r.peak_mb:.0f} | {reasons} |"
    )


def summary(row: Row) -> str:
    """Return a row as one line for the terminal."""
    return (
        f"{row.name:32s} {row.status:8s} macs {row.macs_ratio:.3f} f32 {row.err32:.1e} f64 {row.err64:.1e} "
        f"onnx {row.err_onnx:.1e} moved {row.moved:.2f} {row.kind:6s} groups {row.groups} "
        f"atoms {row.atoms} frozen {row.frozen} export {row.export_s:.1f} graph {row.graph_s:.2f} "
        f"surgery {row.surgery_s:.2f} {row.peak_mb:.0f} MB {row.reason} stored {row.stored}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", nargs="?", choices=["torchvision", "timm", "timm-all", "tasks"])
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--no-onnx", dest="onnx", action="store_false")
    parser.add_argument("--no-double", dest="double", action="store_false")
    parser.add_argument(
        "--skip-ok", action="store_true", help="leave out networks whose row is complete already"
    )
    parser.add_argument("--skip-known", action="store_true", help="leave out networks that have a row")
    parser.add_argument("--limit-s", type=float, default=600, help="CPU seconds a network may take")
    parser.add_argument("--limit-gb", type=float, default=16, help="memory a network may take")
    parser.add_argument("--total-s", type=float, default=1e9, help="start no further network after this long")
    parser.add_argument("--table", action="store_true", help="only write the table")
    args = parser.parse_args()
    if args.suite:
        warm_up()
        have, start = read_rows(), time.perf_counter()
        for name in args.only.split(",") if args.only else names(args.suite):
            old = have.get((args.suite, name))
            done = old is not None and old.status == "ok" and (old.err_onnx >= 0 or not args.onnx)
            if (args.skip_ok and done) or (args.skip_known and old is not None):
                continue
            if time.perf_counter() - start > args.total_s:
                break
            row = run(args.suite, name, args)
            if row.err64 < 0 and row.status == "ok" and old is not None:
                row.err64 = old.err64  # --no-double: seen in an earlier run, of the same network
            NETWORKS.append(dataclasses.asdict(row))
            print(summary(row), flush=True)
    NETWORKS.write_page()


if __name__ == "__main__":
    main()
