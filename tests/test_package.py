"""An installed wheel, away from the checkout, finds its profiles, schemas, page templates and commands."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the wheel is built without fetching a build environment")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(folder), str(ROOT)], check=True, capture_output=True)
    site = folder / "site"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def run_there(site: Path, code: str) -> str:
    prefix = f"import sys; sys.path.insert(0, {str(site)!r}); import dtp_edge; "
    prefix += f"assert dtp_edge.__file__.startswith({str(site)!r}), dtp_edge.__file__; "
    command = [sys.executable, "-c", prefix + code]
    done = subprocess.run(command, cwd=site.parent, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_wheel_finds_its_profiles(installed: Path) -> None:
    code = "p = dtp_edge.list_profiles(); print(len(p), all(dtp_edge.load_profile(n).name == n for n in p))"
    count, same = run_there(installed, code).split()
    assert int(count) == len(list((ROOT / "hardware_profiles").glob("*.json"))) - 1  # without the schema
    assert same == "True"


def test_the_wheel_holds_what_the_report_needs(installed: Path) -> None:
    names = {p.name for p in (installed / "dtp_edge" / "report").rglob("*") if p.is_file()}
    here = {p.name for p in (ROOT / "dtp_edge" / "report").rglob("*") if p.is_file()}
    assert {n for n in here if not n.endswith(".pyc")} <= names
    assert (installed / "dtp_edge" / "hardware_profiles" / "schema.json").exists()


def test_the_wheel_is_typed_and_knows_its_version(installed: Path) -> None:
    assert (installed / "dtp_edge" / "py.typed").is_file()
    (metadata,) = installed.glob("dtp_edge-*.dist-info/METADATA")
    assert f"\nVersion: {run_there(installed, 'print(dtp_edge.__version__)')}\n" in metadata.read_text()
