"""What a person at a terminal sees: screens, widths, colours, pipes, JSON, progress, Ctrl-C."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import sys
import termios
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from dtp_edge import cli
from dtp_edge.cli import progress
from dtp_edge.cli.console import table, wrapped
from dtp_edge.cli.prune import GROUPS, prune
from dtp_edge.errors import nearest

DEVICE = "rpi4-ncnn-fp32-1t"
START = "from dtp_edge.cli import {name}; import sys; sys.argv[0] = {program!r}; {name}()"
COMMANDS = [
    [], ["prune"], ["devices"], ["check"], ["report"], ["completion"],
    ["profile"], ["profile", "measure"], ["profile", "kit"], ["profile", "import"], ["profile", "fit"],
    ["profile", "check"],
]  # fmt: skip


NET = """
import torch
from torch import nn


def build():
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)]
    return nn.Sequential(*layers), torch.zeros(1, 1, 32, 32)
"""


def program(name: str, *arguments: str) -> list[str]:
    start = START.format(name="prune_main" if name == "prune-for-device" else "main", program=name)
    return [sys.executable, "-c", start, *arguments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network and one finished run of it."""
    folder = tmp_path_factory.mktemp("terminal")
    (folder / "net.py").write_text(NET)
    return folder


@pytest.fixture
def call(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(cli.cli, list(arguments), "dtp-edge")
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


_said: dict[Path, tuple[str, str]] = {}


@pytest.fixture
def finished(call: Callable[..., tuple[int, str, str]], folder: Path) -> tuple[str, str]:
    if folder not in _said:
        code, out, err = call("prune", "net.py:build", "--device", DEVICE, "--latency", "60%", "--out", "run")
        assert code == 0, err
        _said[folder] = out, err
    return _said[folder]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_a_screen(call: Callable[..., tuple[int, str, str]], words: list[str]) -> None:
    code, out, _ = call(*words, "--help")
    assert code == 0
    assert len(out.splitlines()) <= 24
    assert max(len(line) for line in out.splitlines()) <= 80


def test_every_option_is_in_the_short_help_and_explained_in_the_long_one(
    call: Callable[..., tuple[int, str, str]],
) -> None:
    short, long = call("prune", "--help")[1], call("prune", "--help-all")[1]
    names = [p.name for p in prune.params if isinstance(p, click.Option)]
    assert sorted(names) == sorted(n for g in GROUPS.values() for n in g if n != "_click_default_help")
    for option in prune.params:
        if isinstance(option, click.Option):
            assert re.search(rf"(?<![\w-]){option.opts[0]}(?![\w-])", short), option.name
            assert re.search(rf"(?<![\w-]){option.opts[-1]}(?![\w-])", long), option.name


def test_help_answers_in_half_a_second() -> None:
    """Counted in CPU time, which a busy machine does not stretch: importing torch alone takes two seconds."""
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(program("dtp-edge", "--help"), capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert "devices" in done.stdout
    assert min(times) < 0.5


def test_everything_printed_fits_80_columns(
    call: Callable[..., tuple[int, str, str]], finished: tuple[str, str]
) -> None:
    fleet = f"{DEVICE},stm32h747-cubeai-int8,snapdragon-8gen2-cpu-ncnn-fp16-4t"
    calls = [
        ("devices",),
        ("devices", DEVICE),
        ("devices", "--runtime", "nothing"),
        ("prune", "net.py:build", "--device", DEVICE, "--latency", "50%", "--plan"),
        ("prune", "net.py:build", "--device", DEVICE, "--latency", "1%", "--ram", "1KiB", "--plan"),
        ("prune", "net.py:build", "--device", fleet, "--latency", "50%", "--ram", "80%", "--plan"),
        ("prune", "net.py:build", "--device", "rpi", "--latency", "50%"),
        ("report", "run", "run"),
        ("check", "run/model.onnx", "--runtime", "onnxruntime,tvm"),
    ]
    texts = [*finished, *(text for words in calls for text in call(*words)[1:])]
    for line in "\n".join(texts).splitlines():
        assert len(click.unstyle(line)) <= 80 or "://" in line, line
    assert "…" not in call(*calls[5])[1], "a figure of the fleet's table is cut"


def test_a_finished_run_is_summed_up(finished: tuple[str, str]) -> None:
    out, err = finished
    assert re.search(r"latency .* 0\.\d{3} .* fits", out)
    assert "6 of 6 passed" in out
    assert "model.onnx" in out
    assert "exporting ONNX" in err


def test_quiet_says_nothing_and_verbose_says_more(
    call: Callable[..., tuple[int, str, str]], finished: tuple[str, str]
) -> None:
    again = ("prune", "net.py:build", "--device", DEVICE, "--latency", "60%", "--out", "run", "--force")
    assert call(*again, "--quiet") == (0, "", "")
    code, out, _ = call(*again, "--verbose")
    assert code == 0
    assert "left whole" in out
    assert "reason" in out
    assert "reason" not in finished[0]


def test_every_listing_is_there_as_json(
    call: Callable[..., tuple[int, str, str]], finished: tuple[str, str]
) -> None:
    plan = ("prune", "net.py:build", "--device", f"{DEVICE},rpi5-ncnn-fp16-1t", "--latency", "50%", "--plan")
    calls: dict[tuple[str, ...], Callable[[Any], bool]] = {
        ("devices", "--json"): lambda d: len(d) > 20 and d[0]["name"] != "",
        ("devices", DEVICE, "--json"): lambda d: d["name"] == DEVICE,
        (*plan, "--json"): lambda d: [e["feasible"] for e in d] == [True, True],
        ("check", "run/model.onnx", "--runtime", "onnxruntime", "--json"): lambda d: d[0]["status"] == "ok",
        ("report", "run", "--json"): lambda d: d["model"]["name"] == "net.py:build",
        ("report", "run", "run", "--json"): lambda d: len(d) == 2,
        ("prune", "net.py:build", "--device", DEVICE, "--macs", "60%", "--out", "b", "--json"): lambda d: (
            d["checks"] != []
        ),
    }
    for words, right in calls.items():
        code, out, err = call(*words)
        assert code == 0, words
        assert right(json.loads(out)), words
        assert err == "", words


def on_a_terminal(arguments: list[str], **environment: str) -> str:
    """Run a program on a pseudo-terminal of 80 columns and return all that it wrote."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    child = subprocess.Popen(
        arguments, stdin=other, stdout=other, stderr=other, env={**plain, "TERM": "xterm", **environment}
    )
    os.close(other)
    said = b""
    while child.poll() is None or select.select([main], [], [], 0.2)[0]:
        if select.select([main], [], [], 0.2)[0]:
            try:
                said += os.read(main, 65536)
            except OSError:
                break
    os.close(main)
    return said.decode()


def test_colours_on_a_terminal_and_nowhere_else() -> None:
    wrong = program("dtp-edge", "devises")
    assert "\x1b[31m" in on_a_terminal(wrong)
    assert "\x1b[" not in on_a_terminal(wrong, NO_COLOR="1")
    piped = subprocess.run(wrong, capture_output=True, text=True)
    assert "\x1b[" not in piped.stdout + piped.stderr
    assert "Did you mean devices?" in piped.stderr
    assert piped.returncode == 2


def test_headings_of_a_device_stand_out() -> None:
    said = on_a_terminal(program("dtp-edge", "devices", DEVICE))
    for heading in (DEVICE, "How right it is", "Limits", "Where it comes from"):
        assert f"\x1b[1m{heading}" in said
    assert "\x1b[1mRaspberry" not in said


def test_a_reader_that_stops_reading_is_no_error() -> None:
    listing = subprocess.Popen(
        program("dtp-edge", "devices", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.readline()
    listing.stdout.close()
    assert listing.stderr.read() == b""
    assert listing.wait() == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_line_for_each_program(call: Callable[..., tuple[int, str, str]], shell: str) -> None:
    code, out, _ = call("completion", shell)
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "_DTP_EDGE_COMPLETE" in out
    assert "_PRUNE_FOR_DEVICE_COMPLETE" in out


def test_completion_completes() -> None:
    asked = {"_DTP_EDGE_COMPLETE": "bash_complete", "COMP_WORDS": "dtp-edge de", "COMP_CWORD": "1"}
    done = subprocess.run(program("dtp-edge"), capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == ["plain,devices"]


def test_a_pipe_is_told_now_and_then_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar = progress.Bar()
    for step in range(1, 101):
        held = {"holdout_accuracy": 0.75} if step == 50 else {}
        bar(
            "masks",
            step,
            100,
            {"loss": 0.5, "budget_used": 0.9876, "softness": 12.34, "accuracy": 0.6} | held,
        )
        now[0] += 1.0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4, lines
    assert lines[0].startswith("masks: 31 of 100 steps, 1 min ")
    assert "left" in lines[0]
    assert lines[0].endswith("loss 0.5, cost 0.99 of the budget, soft 12.3, accuracy 60 %")
    assert lines[-1].startswith("masks: 100 steps in 1 min 39 s")
    assert lines[-1].endswith(
        "loss 0.5, cost 0.99 of the budget, soft 12.3, accuracy 60 %, held-out accuracy 75.0 % at step 50"
    )


def test_a_step_that_training_went_back_to_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    bar = progress.Bar()
    bar("tune", 4, 100, {"loss": 3.0})
    bar("tune", 1, 100, {"loss": 0.5, "went_back_from": 4})
    assert (
        "tune: training diverged at step 4; back to step 0, half the learning rate" in capsys.readouterr().err
    )


def test_a_terminal_has_a_bar_with_the_time_left() -> None:
    code = (
        "import time; from dtp_edge.cli.progress import Bar; bar = Bar()\n"
        "info = {'loss': 0.5, 'budget_used': 1.43, 'softness': 123.4, 'accuracy': 0.5}\n"
        "held = {'holdout_accuracy': 0.881}\n"
        "for i in range(970, 1001): bar('masks', i, 1000, info | held if i == 975 else info); time.sleep(0.1)"
    )
    said = on_a_terminal([sys.executable, "-c", code])
    assert "left" in said
    assert "masks" in said
    assert "cost 1.43, soft 123, held-out 88.1%@975" in said
    assert max(len(click.unstyle(line)) for line in re.split(r"[\r\n]+", said)) <= 80


def test_text_is_folded_but_a_command_is_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    command = "  prune-for-device net.py:build --device rpi4-ncnn-fp32-1t --data digits --resume"
    lines = wrapped("next:", f"all that was learned is kept; go on with\n{command}").splitlines()
    assert lines[-1] == command
    assert all(len(line) <= 50 for line in lines[:-1])


def test_a_wide_table_gives_way_but_not_in_its_first_column() -> None:
    text = table(["name", "what"], [["n" * 30, "w" * 90]], width=60)
    assert all(len(click.unstyle(line)) <= 60 for line in text.splitlines())
    assert "n" * 30 in text


def test_nearest_names_are_those_a_person_would_think_of() -> None:
    known = ["rpi4-ncnn-fp32-1t", "rpi5-ncnn-fp16-1t", "stm32n6-npu-int8", "host"]
    assert nearest("rpi4-ncnn-fp32", known)[0] == "rpi4-ncnn-fp32-1t"
    assert nearest("STM32", known) == ["stm32n6-npu-int8"]
    assert nearest("zzz", known) == []


def test_ctrl_c_leaves_a_state_that_the_printed_command_goes_on_from(folder: Path) -> None:
    pytest.importorskip("accelerate")
    pytest.importorskip("sklearn")
    words = ["net.py:build", "--data", "digits", "--device", DEVICE, "--latency", "60%", "--out", "c"]
    words += ["--epochs", "8"]  # long enough to be stopped on a busy machine too
    child = subprocess.Popen(
        program("prune-for-device", *words), cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a run behind `&` ignores it
    )  # fmt: skip
    assert child.stderr is not None
    said = ""
    while "fine-tune: " not in said:
        line = child.stderr.readline()
        assert line, f"ended before it could be stopped: {said}"
        said += line
    child.send_signal(signal.SIGINT)
    said += child.communicate(timeout=60)[1]
    assert child.returncode == 130, said
    assert not (folder / "c" / "report.json").exists()
    command = said.strip().splitlines()[-1].strip()
    assert command == f"prune-for-device {' '.join(words)} --resume"
    again = subprocess.run(
        program("prune-for-device", *command.split()[1:]), cwd=folder, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "base: " not in again.stderr, "a base that was trained is trained again"
    assert (folder / "c" / "report.json").exists()


def test_resume_without_a_state_is_refused(call: Callable[..., tuple[int, str, str]]) -> None:
    common = ("prune", "net.py:build", "--device", DEVICE, "--latency", "60%", "--out", "new", "--resume")
    assert call(*common)[0] == 2
    code, _, err = call(*common, "--data", "digits")
    assert code == 2
    assert "no checkpoint" in err


def test_a_warning_of_ours_is_a_line_and_no_place_in_the_code(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command()
    def warns() -> None:
        warnings.warn_explicit("c.pt: 1 tensor is left out", UserWarning, progress.__file__, 3)
        warnings.warn_explicit("theirs", UserWarning, "their.py", 7)

    others: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: others.append(str(message)))
    assert cli.run(warns, [], "prune-for-device") == 0
    assert capfd.readouterr().err == "warning: c.pt: 1 tensor is left out\n"
    assert others == ["theirs"]
