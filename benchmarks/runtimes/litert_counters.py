"""What LiteRT's own profiler prints of a file, a table like `benchmark_model`'s, from its package's library.

    PYTHON_WITH_LITERT benchmarks/runtimes/litert_counters.py NET.tflite OUT.txt [SECONDS]

`ai-edge-litert` brings no `benchmark_model`, but its libLiteRt.so profiles: this calls its C interface
(litert/c/*.h) on one thread, without profiling first for the time of a whole call, then with. The summary
is written as it comes, and behind it that time in the words of `benchmark_model`. Needs that package and
the standard library only.
"""

from __future__ import annotations

import ctypes
import importlib.util
import statistics
import sys
import time
from pathlib import Path

ONE, CPU = b"num_threads = 1\n", 1  # kLiteRtHwAcceleratorCpu
PARTS = 40
MOST_CALLS = 2000  # of one profile: its buffer holds half a million events


class LiteRt:
    """The library; a call that fails raises with its status."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("ai_edge_litert")
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit("needs ai-edge-litert: dtp-edge env litert")
        folder = Path(spec.submodule_search_locations[0])
        self.library = ctypes.CDLL(str(folder / "libLiteRt.so"))
        self.environment = self.made("LiteRtCreateEnvironment", 0, None)

    def call(self, name: str, *arguments: object) -> None:
        function = getattr(self.library, name)
        if status := function(*arguments):
            raise SystemExit(f"{name}: status {status}")

    def made(self, name: str, *arguments: object) -> ctypes.c_void_p:
        """Return the handle that the function writes into its last argument."""
        handle = ctypes.c_void_p()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle


class Compiled:
    """One file, compiled, with its buffers."""

    def __init__(self, lite: LiteRt, path: str, *, profile: bool) -> None:
        self.lite = lite
        self.texts = [("xnnpack", ONE)] + [("runtime_options_string", b"enable_profiling = true\n")] * profile
        self.keep = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)  # the texts are ours
        options = lite.made("LiteRtCreateOptions")
        lite.call("LiteRtSetOptionsHardwareAccelerators", options, CPU)
        self.held = [ctypes.create_string_buffer(text) for _, text in self.texts]
        for (name, _), text in zip(self.texts, self.held):  # noqa: B905  # any Python
            opaque = lite.made("LiteRtCreateOpaqueOptions", name.encode(), text, self.keep)
            lite.call("LiteRtAddOpaqueOptions", options, opaque)
        self.model = lite.made("LiteRtCreateModelFromFile", lite.environment, path.encode())
        self.handle = lite.made("LiteRtCreateCompiledModel", lite.environment, self.model, options)
        self.inputs, self.outputs = self._buffers("Input"), self._buffers("Output")
        for buffer in self.inputs:
            self._fill(buffer)

    def _buffers(self, side: str) -> list[ctypes.c_void_p]:
        lite, zero = self.lite, ctypes.c_size_t(0)
        signature = lite.made("LiteRtGetModelSignature", self.model, zero)
        count = ctypes.c_size_t()
        lite.call(f"LiteRtGetNumSignature{side}s", signature, ctypes.byref(count))
        found = []
        for index in range(count.value):
            place = ctypes.c_size_t(index)
            tensor = lite.made(f"LiteRtGetSignature{side}TensorByIndex", signature, place)
            shape = ctypes.create_string_buffer(1024)  # a LiteRtRankedTensorType, passed on as it is
            lite.call("LiteRtGetRankedTensorType", tensor, shape)
            name = f"LiteRtGetCompiledModel{side}BufferRequirements"
            needs = lite.made(name, self.handle, zero, place)
            found.append(
                lite.made("LiteRtCreateManagedTensorBufferFromRequirements", lite.environment, shape, needs)
            )
        return found

    def _fill(self, buffer: ctypes.c_void_p) -> None:
        """Write small floats (0x3e.. bytes are about 0.18): the times of no kernel here depend on values."""
        size, memory = ctypes.c_size_t(), ctypes.c_void_p()
        self.lite.call("LiteRtGetTensorBufferPackedSize", buffer, ctypes.byref(size))
        self.lite.call("LiteRtLockTensorBuffer", buffer, ctypes.byref(memory), 1)
        ctypes.memset(memory, 0x3E, size.value)
        self.lite.call("LiteRtUnlockTensorBuffer", buffer)

    def run(self) -> None:
        given = (ctypes.c_void_p * len(self.inputs))(*[b.value for b in self.inputs])
        made = (ctypes.c_void_p * len(self.outputs))(*[b.value for b in self.outputs])
        counts = [ctypes.c_size_t(len(side)) for side in (self.inputs, self.outputs)]
        self.lite.call(
            "LiteRtRunCompiledModel", self.handle, ctypes.c_size_t(0), counts[0], given, counts[1], made
        )

    def calls_ms(self, seconds: float) -> list[float]:
        """Run for so long; return the time of each call."""
        found, end = [], time.perf_counter() + seconds
        while len(found) < 5 or (time.perf_counter() < end and len(found) < MOST_CALLS):
            start = time.perf_counter()
            self.run()
            found.append(1e3 * (time.perf_counter() - start))
        return found

    def summary(self, seconds: float) -> tuple[float, str]:
        """Return the mean of the calls in so many seconds, and the table of them."""
        profiler = self.lite.made("LiteRtCompiledModelGetProfiler", self.handle)
        self.calls_ms(0.0)
        self.lite.call("LiteRtStartProfiler", profiler)
        times = self.calls_ms(seconds)
        self.lite.call("LiteRtStopProfiler", profiler)
        text = ctypes.c_char_p()
        self.lite.call("LiteRtGetProfileSummary", profiler, self.handle, ctypes.byref(text))
        return sum(times) / len(times), (text.value or b"").decode()


def main(path: str, out: str, seconds: float = 1.0) -> None:
    lite = LiteRt()
    plain = Compiled(lite, path, profile=False)
    first = plain.calls_ms(0.0)[0]
    # means, and what interrupts a call is no property of a layer: the part with the shortest calls
    call = min(statistics.fmean(plain.calls_ms(seconds / PARTS)) for _ in range(PARTS))
    parts = [Compiled(lite, path, profile=True).summary(seconds / PARTS) for _ in range(PARTS)]
    timings = f"First inference: {1e3 * first:.4g}, Inference (avg): {1e3 * call:.6g}"
    Path(out).write_text(f"{min(parts)[1]}\nInference timings in us: {timings}\n", encoding="utf-8")
    print(f"{call:.4f} ms a call")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *map(float, sys.argv[3:4]))
