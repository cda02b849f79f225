"""tract, in Rust: static shapes are set on every input."""

from __future__ import annotations

RUNTIME = {"distribution": "tract", "extra": "runtimes-tract", "about": "pure Rust, small ARM boards"}

_TYPES = {
    "float32": "f32",
    "float64": "f64",
    "int64": "i64",
    "int32": "i32",
    "bool": "bool",
    "uint8": "u8",
    "int8": "i8",
}


def load(job):
    import tract

    model = tract.onnx().load(job["model"])
    for i, (shape, kind) in enumerate(zip(job["shapes"], job["dtypes"])):  # noqa: B905  # any Python
        model.set_input_fact(i, ",".join([*map(str, shape), _TYPES[kind]]))
    runnable = model.into_model().into_runnable()
    return lambda inputs: [output.to_numpy() for output in runnable.run(inputs)]
