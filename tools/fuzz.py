"""Read nearly good files of every kind for as long as there is time, and count what came of it.

    python tools/fuzz.py --minutes 60 [--target pruned] [--seed 0]

Cases run in child processes of a few hundred each, so that one that ends its process is found as well.
Exit code 1 if any case raised what is no DtpEdgeError, or ended its process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
_SLOW_SECONDS, _BATCH_SECONDS = 5.0, 12.0  # of the processor, so that other work beside changes nothing
_MOST_SECONDS, _HANGS_AFTER = 120, 3600.0  # of the processor; of the clock, for what waits for ever


def batch(target: str, first: int) -> None:
    """Try cases from seed `first` on for some seconds; print the counts and faults as one line of JSON."""
    sys.path.insert(0, str(TESTS))
    from helpers.fuzz_inputs import attempt

    counts: Counter[str] = Counter()
    faults: list[str] = []
    resource.setrlimit(resource.RLIMIT_CPU, (_MOST_SECONDS, _MOST_SECONDS))
    end, seed = time.process_time() + _BATCH_SECONDS, first
    with tempfile.TemporaryDirectory() as folder:
        while time.process_time() < end:
            print(seed, flush=True)
            began = time.process_time()
            try:
                counts[attempt(target, seed, Path(folder))] += 1
            except Exception:
                counts["faults"] += 1
                faults.append(traceback.format_exc(limit=-4))
            if time.process_time() - began > _SLOW_SECONDS:
                faults.append(f"{target}, seed {seed}: {time.process_time() - began:.1f} s")
            seed += 1
    print(json.dumps({"counts": counts, "faults": faults, "next": seed}), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--target", action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.batch:
        batch(given.batch[0], int(given.batch[1]))
        return 0
    targets = given.target or ["profile", "kit", "report", "table", "pruned", "checkpoint", "onnx"]
    seeds = dict.fromkeys(targets, given.seed)
    totals = {target: Counter[str]() for target in targets}
    end, died = time.monotonic() + 60 * given.minutes, 0
    while time.monotonic() < end:
        for target in targets:
            words = [sys.executable, __file__, "--batch", target, str(seeds[target])]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_HANGS_AFTER)
            lines = done.stdout.split()
            if done.returncode:
                died += 1
                last = int(lines[-1]) if lines else seeds[target]
                print(
                    f"{target}, seed {last}: the process ended with {done.returncode}\n{done.stderr[-800:]}"
                )
                seeds[target] = last + 1
                continue
            result = json.loads(done.stdout.rstrip().rpartition("\n")[2])
            totals[target].update(result["counts"])
            seeds[target] = result["next"]
            for fault in result["faults"]:
                print(fault, flush=True)
        print({target: dict(counts) for target, counts in totals.items()}, flush=True)
    faults = died + sum(counts["faults"] for counts in totals.values())
    print(f"{sum(sum(c.values()) for c in totals.values())} cases, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
