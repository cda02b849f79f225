"""Write docs/profilers.md, what `dtp-edge profile import` reads, from the readers and their fixtures."""

from __future__ import annotations

from pathlib import Path

from dtp_edge.measure.printout import read_printouts, readers

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIXTURES = ROOT / "docs" / "profilers.md", ROOT / "tests" / "measure" / "printouts"
HEAD = """# What your profiler prints

<!-- made by tools/profilers_page.py: change the readers in dtp_edge/measure/profilers -->

`dtp-edge profile import` makes a device profile from what a vendor's own profiler wrote of your network,
unedited. Name the network with `--model`, best as the ONNX file that the tool was given: then names join
its rows to layers.

```text
dtp-edge profile import FILE --model net.onnx --name my-npu
dtp-edge profile import a.csv b.csv --model a.onnx --model b.onnx --name my-npu
```

Rows are joined by name, by the names of what a row fuses, and where there are no names by order: only if
there are as many rows of a kind as layers, or if a row's multiply-accumulates are a layer's. Then by place:
rows between those of two layers belong to the layers between that have none, by the values that these move
(a norm that is spelled out, a concatenation made of copies), and padding to the layer behind it. What finds
no layer is listed with its share of the time, and raises the network's other layers by that share; a file of
which more than half finds none is refused. One network makes an *indicative* profile, whose error is that
of five parts of the network, each predicted from the others: other networks may be further off. From three
networks on, each is predicted from the others, and the error is of networks. Take networks that resemble
yours.

A profile says nothing of the device's RAM, flash or power, and its channel step is 1. Times of a tool that
counts with its own profiler on are those times.

"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for name, reader in readers().items():
        fixtures = [FIXTURES / f for f in (reader.fixture, reader.companion_fixture) if f]
        (found,) = read_printouts(fixtures)
        largest = max(found.rows, key=lambda row: row.time)
        unit = "cycles" if reader.title.startswith("Vela") else "ms"
        time = largest.time * (1.0 if unit == "cycles" else found.time_ms or 1.0)
        files = " and ".join(f"`{path.name}`" for path in fixtures)
        lines = [
            f"## {reader.title}",
            "",
            f"- made by: `{reader.made_by}`",
            f"- read by `dtp_edge/measure/profilers/{name}.py`",
            f"- example: {files}, {len(found.rows)} rows; {reader.fixture_from}",
            f"- its longest row: `{largest.names[0]}` ({largest.type}), {time:.4g} {unit}",
        ]
        if reader.notes:
            lines.append(f"- {reader.notes}")
        parts.append("\n".join(lines) + "\n\n")
    return "".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
