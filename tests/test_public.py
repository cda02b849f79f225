"""The public face: typed, lazy, and all that guides and examples use; nothing of the caller's is changed."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import dtp_edge as dtp

ROOT = Path(__file__).parents[1]
FACES = {"training", "zoo", "onnx", "int8", "runtimes", "report", "proof"}
DEVICE = "rpi4-ncnn-fp32-1t"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


def sources() -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / "examples").glob("*.py")):
        yield path.name, path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in BLOCK.findall(path.read_text(encoding="utf-8")):
            yield path.name, block


def used() -> Iterator[tuple[str, str, str]]:
    """Yield (where, module, name) of all that guides and examples take from the package."""
    for where, text in sources():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "dtp_edge":
                yield from ((where, str(node.module), alias.name) for alias in node.names)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("dtp", "dtp_edge"):
                yield where, "dtp_edge", node.attr


def test_guides_and_examples_use_public_names_only() -> None:
    found = set(used())
    assert ("plain_loop.py", "dtp_edge", "TransportPruner") in found
    for where, module, name in sorted(found):
        if module == "dtp_edge":
            assert name in dtp.__all__ or name in FACES, f"{where}: dtp_edge.{name}"
            continue
        face = module.removeprefix("dtp_edge.")
        assert face in FACES, f"{where} reaches below a face: {module}"
        text = (ROOT / "dtp_edge" / face / "__init__.py").read_text()
        assert re.search(rf"\bas {name}\b|\"{name}\"", text), f"{where}: {module}.{name} is not on the face"
        assert getattr(importlib.import_module(module), name) is not None


def test_the_stability_page_names_every_face() -> None:
    page = (ROOT / "docs" / "stability.md").read_text()
    assert all(f"`dtp_edge.{face}`" in page for face in FACES)


SCRIPT = """
import dtp_edge as dtp
from dtp_edge.onnx import export_onnx
from dtp_edge.training import Recipe
from torch import Tensor, nn

profile = dtp.load_profile("rpi4-ncnn-fp32-1t")
reveal_type(profile)
reveal_type(dtp.Budget(latency="60%"))
def prune(model: nn.Module, x: Tensor) -> None:
    reveal_type(dtp.prune_for_device(model, {"x": x}, budget=dtp.Budget(macs="50%"), int8=True))
    reveal_type(dtp.TransportPruner(model, x, budget=dtp.Budget(macs="50%"), total_steps=3))
    reveal_type(export_onnx(model, x, "m.onnx"))
    reveal_type(Recipe().batch_size)
    dtp.prune_for_device(model, x, budget="60%")
"""


def test_a_type_checker_sees_the_types_of_a_users_script(tmp_path: Path) -> None:
    pytest.importorskip("pyright", reason="the type checker comes with the lint extra")
    (tmp_path / "user.py").write_text(SCRIPT)
    settings = {"extraPaths": [str(ROOT)], "typeCheckingMode": "basic"}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "user.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["generalDiagnostics"]
    said = [row["message"].rsplit(" is ", 1)[1] for row in found if row["severity"] == "information"]
    wanted = ["Profile", "Budget", "PruneResult", "TransportPruner", "Path", "int"]
    assert said == [f'"{name}"' for name in wanted]
    errors = [row for row in found if row["severity"] == "error"]
    assert len(errors) == 1, errors
    assert '"budget"' in errors[0]["message"]


def test_an_input_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="60 percent"):
        dtp.Budget(latency="60 percent")
    assert issubclass(dtp.UnsupportedError, ValueError)
    assert not issubclass(dtp.BudgetError, ValueError)


def handlers_that_swallow(source: str) -> list[int]:
    """Return where a `raise` of ours stands in a try whose `except ValueError` would catch it."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Try):
            continue
        raises = [n for s in node.body for n in ast.walk(s) if isinstance(n, ast.Raise) and n.exc is not None]
        ours = [n.lineno for n in raises if re.match(r"(InputError|UnsupportedError)\b", ast.unparse(n.exc))]  # type: ignore[arg-type]
        for handler in node.handlers:
            caught = "" if handler.type is None else ast.unparse(handler.type)
            if "InputError" in caught or "DtpEdgeError" in caught:
                break
            if "ValueError" in caught:
                found += ours
    return found


def test_no_handler_of_value_errors_swallows_our_own() -> None:
    bad = "try:\n    raise InputError('x')\nexcept (OSError, ValueError):\n    pass"
    assert handlers_that_swallow(bad) == [2]
    assert handlers_that_swallow(bad.replace("except (", "except InputError:\n    raise\nexcept (")) == []
    files = (ROOT / "dtp_edge").rglob("*.py")
    found = {p.name: lines for p in files if (lines := handlers_that_swallow(p.read_text()))}
    assert not found


def test_the_filters_of_warnings_are_left_alone_and_nothing_warns() -> None:
    code = (
        "import warnings; before = list(warnings.filters); import dtp_edge.graph, dtp_edge.run.pipeline; "
        "ours = [f for f in warnings.filters if f not in before and 'treespec' in str(f[1])]; print(ours)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        dtp.prune_for_device(model, torch.randn(2, 4), device=DEVICE, budget=dtp.Budget(macs="50%"))
    assert not [w for w in heard if "LeafSpec" in str(w.message)]


def test_the_version_is_written_once() -> None:
    assert f'__version__ = "{dtp.__version__}"' in (ROOT / "dtp_edge" / "__init__.py").read_text()
    assert (
        dtp.__version__
        not in re.sub(r">=[\d.]+", "", (ROOT / "pyproject.toml").read_text()).split("[tool")[0]
    )


def test_a_retired_name_works_and_says_where_it_is_now() -> None:
    from dtp_edge import export

    for name, room in export._ROOM_OF.items():
        with pytest.warns(DeprecationWarning, match=f"import {name} from dtp_edge.{room}"):
            found = getattr(export, name)
        assert found is getattr(importlib.import_module(f"dtp_edge.{room}"), name)
    with pytest.raises(AttributeError, match="no attribute 'anything'"):
        _ = export.anything
