"""What runs on the board: a plain Python 3.8 with numpy and onnxruntime. Files come as a tar on stdin.

One line of JSON after `dtp-edge ` says how it goes: hello, progress, fault, result. The folder that it makes
is removed when it ends, or when nobody listens any more. The tar holds `job.json`: {"kind": ..., ...}.
"""

import base64
import importlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib

THROTTLED = 1.2  # the reference at the end over that at the beginning


def say(**message):
    sys.stdout.write("dtp-edge " + json.dumps(message) + "\n")
    sys.stdout.flush()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = None
    try:
        folder = os.environ["TMPDIR"] = tempfile.mkdtemp(
            prefix="dtp-edge-"
        )  # libraries leave things there too
        say(hello={"machine": platform.machine(), "python": platform.python_version()})
        with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as archive:
            for member in archive:
                target = os.path.join(folder, os.path.basename(member.name))
                with open(target, "wb") as stream:
                    shutil.copyfileobj(archive.extractfile(member), stream)  # type: ignore[arg-type]
        with open(os.path.join(folder, "job.json")) as stream:
            job = json.load(stream)
        result = {"hello": hello, "probe": probe, "time": timed, "run": run}[job["kind"]](folder, job)
        packed = base64.b64encode(zlib.compress(json.dumps(result).encode())).decode()
        say(result=packed)
    except ModuleNotFoundError as error:
        say(fault="module", text=str(error.name))
    except ImportError as error:  # a library that is there and cannot be loaded
        say(fault="library", text=str(error)[:300])
    except tarfile.ReadError as error:
        say(fault="transfer", text=str(error))
    except OSError as error:
        say(fault="disk" if error.errno in (28, 122) else "system", text=str(error))
    except Fault as error:
        say(fault=error.args[0], text=error.args[1])
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


class Fault(Exception):
    pass


def hello(folder, job):
    import numpy
    import onnxruntime

    return {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": numpy.__version__,
    }


def watch(command, folder, onto=None):
    """Run a program; a death by a signal is a fault that names it."""
    lines, log = [], tempfile.TemporaryFile()  # noqa: SIM115  # read after the child
    child = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
    )
    try:
        for line in child.stdout:  # type: ignore[union-attr]
            lines.append(line.decode(errors="replace").rstrip())
            if onto is not None:
                onto(lines[-1])
        code = child.wait()
    finally:
        child.kill()
    log.seek(0)
    errors = log.read(1 << 20).decode(errors="replace").strip()
    if code in (-4, -11):
        raise Fault("architecture", f"died of signal {-code}")
    if code == -9:
        raise Fault("killed", "killed by the system, as it does where memory runs out")
    return code, lines, errors


def probe(folder, job):
    """Unpack the kit, run its own script, and bring back what it wrote."""
    import zipfile

    import numpy  # noqa: F401  # told as a fault of its own
    import onnxruntime  # noqa: F401

    with zipfile.ZipFile(os.path.join(folder, "kit.zip")) as kit:
        kit.extractall(os.path.join(folder, "kit"))
    os.remove(os.path.join(folder, "kit.zip"))

    def progress(line):
        count = line.split(" ")[0].split("/")
        if len(count) == 2 and count[0].isdigit():
            say(progress=[int(count[0]), int(count[1])])

    command = [job["python"], "measure.py", "--threads", str(job["threads"]), *job["options"]]
    code, lines, errors = watch(command, os.path.join(folder, "kit"), progress)
    if code:
        if "No space left" in errors:
            raise Fault("disk", errors[-300:])
        words = (errors or "\n".join(lines)).split("\nnext: ")[0]
        raise Fault("script", words[-600:].replace("error: ", "", 1))
    with open(os.path.join(folder, "kit", "results.json")) as stream:
        results = json.load(stream)
    reference = [network["reference_ms"] for network in results["networks"]]
    return {"results": results, "slowdown": slowdown(reference)}


def timed(folder, job):
    """Time ONNX files in turns, with a reference between, by the kit's own functions."""
    sys.path.insert(0, folder)
    import numpy as np

    measure = importlib.import_module("measure")  # the kit's script, beside

    reference = measure.runner(os.path.join(folder, "reference.onnx"), job["threads"])[0]
    runners = [measure.runner(os.path.join(folder, name), job["threads"])[0] for name in job["files"]]
    for run_once in (*runners, reference):
        run_once()
    start, rounds, standard = time.time(), [], []
    while len(rounds) < job["rounds"] and (len(rounds) < 7 or time.time() - start < job["seconds"]):
        order = range(len(runners)) if len(rounds) % 2 == 0 else reversed(range(len(runners)))
        found = [0.0] * len(runners)
        for index in order:
            found[index] = 1e-3 * float(np.mean(measure.samples(runners[index], 3)))
        rounds.append(found)
        standard.append(1e-3 * float(np.mean(measure.samples(reference, 3))))
        say(progress=[len(rounds), job["rounds"]])
    import onnxruntime

    return {
        "samples_ms": [list(column) for column in zip(*rounds)],  # noqa: B905  # any Python
        "reference_ms": standard,
        "slowdown": slowdown(standard),
        "onnxruntime": onnxruntime.__version__,
        "machine": platform.machine(),
    }


def run(folder, job):
    """Run the worker of `dtp-edge check` under this Python, and bring back the files that it wrote."""
    before = set(os.listdir(folder))
    with open(os.path.join(folder, "job.json"), "w") as stream:
        json.dump(job["worker"], stream)
    code, lines, errors = watch([job["python"], os.path.join(folder, "worker.py"), folder], folder)
    made = {}
    for name in set(os.listdir(folder)) - before:
        path = os.path.join(folder, name)
        if name in ("version.json", "outputs.npz", "result.json") and os.path.isfile(path):
            with open(path, "rb") as stream:
                made[name] = base64.b64encode(stream.read()).decode()
    return {"files": made, "code": code, "log": (errors or "\n".join(lines))[-2000:]}


def slowdown(reference):
    """Return the last third over the first, by the fastest: a fallen clock slows all, other programs some."""
    third = max(1, len(reference) // 3)
    return min(reference[-third:]) / min(reference[:third])


if __name__ == "__main__":
    main()
