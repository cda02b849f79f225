"""ONNX Runtime for aarch64, emulated, against ONNX Runtime here: same files, same inputs.

    benchmarks/aarch64.sh build/aarch64
    python -m benchmarks.aarch64 --python build/aarch64/python FILE.onnx ...

Writes benchmarks/results/aarch64.csv; fails where an fp32 file differs by more than 1e-5.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.experiments import EXPERIMENTS
from dtp_edge.int8 import is_quantized
from dtp_edge.runtimes import check_runtimes

LIMIT = 1e-5


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--python", required=True, type=click.Path(exists=True), help="The emulated interpreter.")
@click.option("--timeout", default=300.0, help="Seconds a file may take.")
def main(files: tuple[Path, ...], python: str, timeout: float) -> None:
    """Compare each file and write the table."""
    bad, rows = False, []
    for path in files:
        (row,) = check_runtimes(
            path, ["onnxruntime"], interpreters={"onnxruntime": python}, timeout_s=timeout
        )
        int8 = is_quantized(path)
        # relative_diff is over the range of the output; for fp32 that is the stricter of the two readings
        bad |= row.status != "ok" or (not int8 and min(row.max_abs_diff or 0, row.relative_diff or 0) > LIMIT)
        rows.append(
            {
                "file": path.name,
                "precision": "int8" if int8 else "fp32",
                "onnxruntime": row.version,
                "status": row.status,
                "max_abs_diff": row.max_abs_diff,
                "share_of_range": row.relative_diff,
                "detail": row.detail,
                "emulator": "qemu-user cortex-a72",
            }
        )
        click.echo(" ".join(map(str, rows[-1].values())))
    EXPERIMENTS["aarch64"].table(rows)
    sys.exit(4 if bad else 0)


if __name__ == "__main__":
    main()
