"""What --on takes, and the command line that it becomes; what could slip an option into ssh is refused."""

from __future__ import annotations

import pytest

from dtp_edge.errors import InputError
from dtp_edge.remote import remote_of


@pytest.mark.parametrize(
    ("typed", "ends", "python"),
    [
        ("ssh://pi@board", ["--", "pi@board", "x"], "python3"),
        ("ssh://board:2222", ["-p", "2222", "--", "board", "x"], "python3"),
        ("ssh://pi@10.0.0.7/home/pi/venv/bin/python", ["--", "pi@10.0.0.7", "x"], "/home/pi/venv/bin/python"),
        ("ssh://pi@[fe80::1]:22", ["-p", "22", "--", "pi@fe80::1", "x"], "python3"),
    ],
)
def test_ssh(typed, ends, python, monkeypatch):
    monkeypatch.setenv("DTP_EDGE_SSH", "ssh -F config")
    remote = remote_of(typed)
    command = remote.command("x")
    assert command[:3] == ["ssh", "-F", "config"]
    assert command[-len(ends) :] == ends
    assert remote.python == python


def test_ssh_never_asks_and_never_changes_how_keys_are_checked():
    command = remote_of("ssh://board").command("x")
    assert "BatchMode=yes" in command
    assert not [word for word in command if "HostKey" in word or "KnownHosts" in word]


@pytest.mark.parametrize(("typed", "chosen"), [("adb:R58M", ["-s", "R58M"]), ("adb:", [])])
def test_adb(typed, chosen):
    assert remote_of(typed).command("x") == ["adb", *chosen, "shell", "-T", "x"]


@pytest.mark.parametrize(
    "typed",
    [
        "board", "ssh://", "ssh://-oProxyCommand=touch", "ssh://-l@host", "ssh://a b", "ssh://h:0", "ssh://h:99999",
        "ssh://u@h:22;reboot", "ssh://h/py thon", "ssh://h/$(x)'", "adb:-x", "http://h",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(typed):
    with pytest.raises(InputError, match="does not name a board"):
        remote_of(typed)
