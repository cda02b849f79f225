"""ONNX to C to a Cortex-M4F in QEMU: flash, RAM and instructions, before and after pruning.

    apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm; pip install emx-onnx-cgen
    python -m benchmarks.cortex_m dense.onnx pruned.onnx

The numbers are deterministic. They count instructions, not cycles, and depend on the compiler's options: use
the ratio of two files. The outputs are compared with ONNX Runtime; more than 1e-5 of difference is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import onnxruntime as ort

from benchmarks.experiments import EXPERIMENTS

HERE = Path(__file__).parent
INSTRUCTIONS_PER_TICK = 40  # 1 GHz of instructions under -icount shift=0, a timer of 25 MHz
LIMIT = 1e-5
CPU = ("-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--optimise", default="-O2", help="The compiler's option.")
@click.option("--cgen", default="emx-onnx-cgen", help="The generator's program.")
def main(files: tuple[Path, ...], optimise: str, cgen: str) -> None:
    """Build and run each file; write the table."""
    for tool in (cgen, "arm-none-eabi-gcc", "qemu-system-arm"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed: see the head of {Path(__file__).name}")
    rows = []
    for path in files:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(path, Path(folder), optimise, cgen))
        click.echo(" ".join(f"{key} {value}" for key, value in rows[-1].items()))
    board = f"QEMU mps2-an386 (Cortex-M4F), gcc {optimise}"
    EXPERIMENTS["cortex_m"].table([row | {"board": board} for row in rows])
    sys.exit(4 if any(not row["max_abs_diff"] <= LIMIT for row in rows) else 0)


def measure(path: Path, folder: Path, optimise: str, cgen: str) -> dict[str, object]:
    """Return flash, RAM, instructions and the difference from ONNX Runtime of one file with one input."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    x = np.random.default_rng(0).normal(size=entry.shape).astype(np.float32)
    expected = np.asarray(session.run(None, {entry.name: x})[0])
    options = ["--large-temp-threshold", "0", "--large-weight-threshold", "0"]
    call([cgen, "compile", *options, str(path), str(folder / "model.c")])
    source = (folder / "model.c").read_text()
    function = re.findall(r"^void (\w+)\(const float", source, re.MULTILINE)[-1]
    (folder / "network.h").write_text(header(function, x, expected))
    elf = folder / "model.elf"
    sources = [str(HERE / "cortex_m" / "main.c"), str(folder / "model.c"), str(crt0())]
    flags = [
        *CPU,
        optimise,
        "-w",
        "-ffunction-sections",
        "-fdata-sections",
        "-Wl,--gc-sections",
        f"-I{folder}",
    ]
    layout = ["--specs=rdimon.specs", "-nostartfiles", "-T", str(HERE / "cortex_m" / "link.ld")]
    call(["arm-none-eabi-gcc", *flags, *sources, *layout, "-lm", "-o", str(elf)])
    sizes = call(["arm-none-eabi-size", str(elf)]).splitlines()[1].split()
    text = call(
        [
            "qemu-system-arm",
            "-M",
            "mps2-an386",
            "-nographic",
            "-semihosting",
            "-icount",
            "shift=0",
            "-kernel",
            str(elf),
        ]
    )
    ticks = int(re.findall(r"ticks (\d+)", text)[0])
    bits = np.array([int(v, 16) for v in re.findall(r"out ([0-9a-f]{8})", text)], dtype=np.uint32)
    return {
        "file": path.name,
        "flash_bytes": int(sizes[0]) + int(sizes[1]),
        "static_ram_bytes": int(sizes[1]) + int(sizes[2]),
        "stack_bytes": int(re.findall(r"stack (\d+)", text)[0]),
        "instructions": ticks * INSTRUCTIONS_PER_TICK,
        "max_abs_diff": float(np.abs(bits.view(np.float32) - expected.reshape(-1)).max()),
    }


def header(function: str, x: np.ndarray, expected: np.ndarray) -> str:
    """Return the C header that gives main.c the network and one input."""
    values = ",".join(f"{v!r}f" for v in x.reshape(-1).tolist())
    return (
        f"void {function}(const void *, void *);\n"
        f"static const float INPUT[] = {{{values}}};\n"
        f"#define OUTPUT_COUNT {expected.size}\n"
        f"#define RUN(output) {function}(INPUT, output)\n"
    )


def crt0() -> Path:
    """Return newlib's start object for semihosting, of the FPU's kind."""
    return Path(call(["arm-none-eabi-gcc", *CPU, "-print-file-name=rdimon-crt0.o"]).strip())


def call(command: list[str]) -> str:
    """Run a program and return what it printed; its last words end this one where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        sys.exit(f"{command[0]} ended with code {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout + done.stderr


if __name__ == "__main__":
    main()
