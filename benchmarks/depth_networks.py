"""Coverage of branches: every network of torchvision and timm without half of its branches, one row each.

    python -m benchmarks.depth_networks torchvision          # all 80 classifiers
    python -m benchmarks.depth_networks timm                 # the smallest network of each timm module
    python -m benchmarks.depth_networks timm --only vit_tiny_patch16_224 --no-onnx

As `benchmarks.networks`, each in a child process, every weight and norm statistic random: half of the gates
are closed at random, at least one, and every group keeps 60 % of its channels. A row passes if masked ==
compact to 1e-9 in float64 and torch == ONNX Runtime to 1e-4 (where float32 magnifies its rounding, float64
decides), and if the costs of the compact network, traced anew, are those that were priced. A network without
a branch is "none"; `refused` are the additions that have none, with reasons.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import datetime
import multiprocessing as mp
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiments import EXPERIMENTS
from benchmarks.networks import in_double, machine, warm_up
from benchmarks.problems.keeps import random_depth
from benchmarks.subjects import build, names

NETWORKS = EXPERIMENTS["depth_networks"]
_HEAVY = (
    *("large", "base", "101", "152", "161", "16gf", "32gf", "128gf", "8gf", "_l", "_h", "_b4", "_b5", "_b6"),
    *("_b7", "v2_m", "_b_", "vgg", "swin_s", "swin_b", "v2_s", "wide"),
)
PROFILES = ("rpi4-ncnn-fp32-1t", "stm32n6-npu-int8")  # additive, and with saturation and in-place memory


@dataclasses.dataclass
class Row:
    """What happened to one network."""

    suite: str
    name: str
    status: str = "failed"  # ok, none (no branch), refused (named reason), failed, wrong (must never happen)
    reason: str = ""
    branches: int = 0
    gone: int = 0
    nested: int = 0
    both: int = 0  # additions of which both operands have a branch
    on_graph: int = 0  # gates that no parameter can carry
    names: str = ""  # of the first ten branches
    refused: str = ""  # how many additions for which reason
    err64: float = -1.0
    err_onnx: float = -1.0
    cost_gap: float = -1.0  # relative, the worst of all metrics and profiles
    moved: float = -1.0
    kind: str = ""
    kind_reason: str = ""
    seconds: float = 0.0
    peak_mb: float = 0.0
    date: str = ""
    machine: str = ""


def examine(suite: str, name: str, with_onnx: bool) -> Row:
    """Take half of the branches of one network away and prove the rest; a refusal is a row too."""
    from dtp_edge.errors import DtpEdgeError

    row = Row(suite, name, date=datetime.date.today().isoformat(), machine=machine())
    start = time.perf_counter()
    try:
        _examine(row, with_onnx)
    except DtpEdgeError as error:
        row.status, row.reason = "refused" if error.exit_code != 4 else "wrong", error.message()[:400]
    except Exception as error:
        row.reason = f"{type(error).__name__}: {str(error)[:300]}"
    row.seconds = round(time.perf_counter() - start, 1)
    row.peak_mb = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return row


def _examine(row: Row, with_onnx: bool) -> None:
    from dtp_edge.graph.build import label_network
    from dtp_edge.graph.trace import trace
    from dtp_edge.proof.equality import randomise_tensors
    from dtp_edge.surgery.compaction import compact

    model, inputs = build(row.suite, row.name)
    graph_module, fixed = trace(model.eval(), inputs)
    network = label_network(model, graph_module, inputs, dynamic_batch=fixed is None, depth=True)
    _count(row, network)
    if not network.branches:
        row.status = "none"
        return
    randomise_tensors(network)
    keep = random_depth(network, 0.6, seed=0)
    result = compact(network, keep, trains=False)
    row.gone, row.kind, row.kind_reason = len(result.branches), result.kind, result.reason or ""
    row.cost_gap = cost_gap(network, keep, result.graph_module)
    faults = [f"costs differ by {row.cost_gap:.1e}"] if row.cost_gap > 1e-9 else []
    if with_onnx:
        row.err_onnx, fault = _onnx(result, inputs)
        faults += fault
    del result, model, graph_module
    twin = in_double(network)
    row.err64, row.moved = _double(twin, keep, compact(twin, keep, in_place=False))
    faults += [f"masked != compact ({row.err64:.1e})"] if not row.err64 <= 1e-9 else []
    faults += ["nothing moved, so equality proves nothing"] if row.moved < 1e-3 else []
    row.status, row.reason = ("wrong", "; ".join(faults)) if faults else ("ok", "")


def _count(row: Row, network: Any) -> None:
    row.branches = len(network.branches)
    row.nested = sum(b.parent is not None for b in network.branches)
    row.both = sum(b.twin is not None for b in network.branches) // 2
    gates = {b.atom for b in network.branches}
    row.on_graph = sum(int(s.atoms[0, 0]) in gates for s in network.node_sites)
    row.names = ", ".join(b.name for b in network.branches[:10])
    why = collections.Counter(f.text for f in network.depth.refused)
    row.refused = "; ".join(f"{n} x {text}" for text, n in why.most_common(6))


def cost_gap(network: Any, keep: Any, graph_module: torch.nn.Module) -> float:
    """Return the largest relative difference between the costs as priced and those of the compact network."""
    import dtp_edge
    from dtp_edge.cost import NetworkCost
    from dtp_edge.graph import trace_network

    again = trace_network(graph_module, network.example_inputs)
    worst = 0.0
    for name in PROFILES:
        profile = dtp_edge.load_profile(name)
        priced = NetworkCost(network.layers, profile)
        anew = NetworkCost(again.layers, profile)
        one = priced.evaluate(network.layers.sizes(keep.astype(float)))
        other = anew.evaluate(anew.dense_sizes())
        worst = max(worst, *(abs(one[m] - other[m]) / max(other[m], 1e-12) for m in one))
    return worst


def _onnx(result: Any, inputs: tuple[Any, ...]) -> tuple[float, list[str]]:
    from dtp_edge.onnx import check_onnx, export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(result.module, inputs, Path(folder) / "model.onnx")
        check = check_onnx(path, result.graph_module, inputs, seeds=(0,))
    return check.value, [] if check.passed else [f"torch != ONNX Runtime ({check.value:.1e})"]


def _double(twin: Any, keep: Any, cut: Any) -> tuple[float, float]:
    from dtp_edge.graph import MaskedNetwork
    from dtp_edge.graph.leaves import leaves, random_like
    from dtp_edge.surgery.difference import relative_error

    inputs = random_like(twin.example_inputs, 5, torch.float64)
    with torch.no_grad():
        wanted = leaves(MaskedNetwork(twin, keep).eval()(*inputs))
        error = relative_error(wanted, leaves(cut.graph_module.eval()(*inputs)))
        return error, relative_error(leaves(twin.graph_module(*inputs)), wanted)


def _child(queue: Any, suite: str, name: str, onnx: bool, limit_gb: float) -> None:
    size = int(limit_gb * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    queue.put(examine(suite, name, onnx))


def run(suite: str, name: str, args: argparse.Namespace) -> Row:
    """Examine one network in a child; one that dies or takes too long is a row as well."""
    context = mp.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue, suite, name, args.onnx, args.limit_gb))
    start = time.perf_counter()
    child.start()
    row = None
    while row is None and time.perf_counter() - start < args.limit_s:
        try:
            row = queue.get(timeout=0.5)
        except Exception:
            if not child.is_alive():
                break
    child.join(1)
    if child.is_alive():
        child.kill()
    why = "took too long" if time.perf_counter() - start >= args.limit_s else f"died, {child.exitcode}"
    today = datetime.date.today().isoformat()
    return row or Row(suite, name, reason=why, date=today, machine=machine())


def whole_page() -> str:
    """The table and its summary from the rows that are there."""
    rows = {(r["suite"], r["name"]): r for r in NETWORKS.read()}
    about = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    lines = ["# Coverage: any network without half of its branches", "", about, ""]
    for suite in ("torchvision", "timm", "tasks"):
        part = [r for (s, _), r in sorted(rows.items()) if s == suite]
        if not part:
            continue
        count = collections.Counter(r["status"] for r in part)
        lines += [
            f"## {suite}: {count['ok']} exact, {count['none']} without a branch, {count['wrong']} wrong",
            "",
            f"Of {len(part)} run; refused with a reason {count['refused']}, failed {count['failed']}. "
            f"Branches found: {sum(r['branches'] for r in part)}, gone: {sum(r['gone'] for r in part)}. "
            f"{part[-1]['date']}, {part[-1]['machine']}.",
            "",
            "| network | status | gone | branches | nested | both operands | gates in the graph | err f64 |"
            " err ONNX | cost gap | result | reasons |",
            "|" + "---|" * 12,
            *(_line(r) for r in part),
            "",
        ]
    return "\n".join(lines)


def _line(r: dict[str, Any]) -> str:
    def err(x: float) -> str:
        return "" if x < 0 else f"{x:.0e}"

    reasons = "; ".join(x for x in (r["reason"], r["refused"], r["kind_reason"]) if x)
    reasons = reasons.replace("|", "/").replace("\n", " ")[:300]
    return (
        f"| {r['name']} | {r['status']} | {r['gone']} | {r['branches']} | {r['nested']} | {r['both']} |"
        f" {r['on_graph']} | {err(r['err64'])} | {err(r['err_onnx'])} | {err(r['cost_gap'])} | {r['kind']} |"
        f" {reasons} |"
    )


def _is_heavy(name: str) -> bool:
    """Networks that take minutes come last: a run that is stopped has seen most of them."""
    return any(part in name for part in _HEAVY)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("suite", choices=["torchvision", "timm", "tasks"])
    parser.add_argument("--only", help="names, separated by commas")
    parser.add_argument("--no-onnx", dest="onnx", action="store_false")
    parser.add_argument("--skip-known", action="store_true", help="leave out networks that have a row")
    parser.add_argument("--limit-s", type=float, default=600, help="seconds a network may take")
    parser.add_argument("--limit-gb", type=float, default=12, help="memory a network may take")
    parser.add_argument("--total-s", type=float, default=1e9, help="start no further network after this long")
    args = parser.parse_args()
    warm_up()
    known = {(r["suite"], r["name"]) for r in NETWORKS.read()} if args.skip_known else set()
    wanted = args.only.split(",") if args.only else sorted(names(args.suite), key=_is_heavy)
    wanted = [n for n in wanted if (args.suite, n) not in known]
    start = time.perf_counter()
    counts: collections.Counter[str] = collections.Counter()
    for name in wanted:
        if time.perf_counter() - start > args.total_s:
            break
        row = run(args.suite, name, args)
        counts[row.status] += 1
        NETWORKS.append(dataclasses.asdict(row))
        print(
            f"{row.name:32s} {row.status:7s} {row.gone}/{row.branches} nested {row.nested} both {row.both} "
            f"graph {row.on_graph} f64 {row.err64:.1e} onnx {row.err_onnx:.1e} cost {row.cost_gap:.1e} "
            f"moved {row.moved:.2f} {row.kind} {row.seconds} s {row.reason}",
            flush=True,
        )
    print(dict(counts))


if __name__ == "__main__":
    main()
