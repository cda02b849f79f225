"""Write docs/formats/RUNTIME.md, one page a runtime of `--format`, all from one template.

    python tools/format_guides.py

What a page says of names, versions and files is what the registries say; `format_notes.toml` has what was
seen of each.
`tests/test_format_guides.py` holds the pages to this.
"""

# prose

from __future__ import annotations

import tomllib
from pathlib import Path

from dtp_edge.runtimes.formats.registry import FORMATS
from dtp_edge.runtimes.registry import RUNTIMES
from dtp_edge.runtimes.rewrites import rewrites_of

DOCS = Path(__file__).parents[1] / "docs" / "formats"

TEMPLATE = Path(__file__).with_name("format_guide.md").read_text(encoding="utf-8")

NOTES = tomllib.loads(Path(__file__).with_name("format_notes.toml").read_text(encoding="utf-8"))


def page(runtime_name: str) -> str:
    """Return the guide of one runtime."""
    (one,) = [f for f in FORMATS.values() if f.runtime == runtime_name]
    runtime, notes = RUNTIMES[runtime_name], NOTES[runtime_name]
    rewrites = "; ".join(r.about for r in rewrites_of(one.name) if r.default)
    more = " ".join(f"With `{r.name}` {r.about}." for r in rewrites_of(one.name) if not r.default)
    int8 = one.files("model", "int8")[0]
    names = " and ".join(f"`{name}`" for name in one.files("model", one.precisions[0]))
    command = notes.get("command", f"resnet8 --device rpi4-ncnn-fp32-1t --macs 50% --format {one.name}")
    return TEMPLATE.format(
        **{**notes, "command": command},
        about=one.about,
        runtime=runtime_name,
        format=one.name,
        variable=f"DTP_EDGE_PYTHON_{runtime_name.upper()}",
        pins=", ".join(f"`{pin}`" for pin in runtime.pins),
        bare=f" and, without what it asks for, `{runtime.bare_pins[0]}`" if runtime.bare_pins else "",
        files=names,
        int8=f"; with `--int8` also `{int8}`" if one.precisions == ("fp32", "int8") else "",
        rewrites=f"On the way {rewrites}. `--rewrites A,B` names those that may be used. {more}".rstrip()
        if rewrites
        else "",
    )


def main() -> None:
    for name in NOTES:
        (DOCS / f"{name}.md").write_text(page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
