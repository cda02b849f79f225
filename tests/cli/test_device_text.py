"""The list and the page of devices."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from dtp_edge.cli.device_text import describe_profile, device_rows
from dtp_edge.cli.devices import devices
from dtp_edge.cli.run_prune import named_devices
from dtp_edge.errors import InputError
from dtp_edge.measure import load_profile
from dtp_edge.profiles import list_profiles
from dtp_edge.run.feasibility import feasibility
from dtp_edge.transport import Budget


def test_rows_cover_every_shipped_profile_and_filter():
    assert [row.name for row in device_rows()] == list_profiles()
    int8 = device_rows(precision="INT8")
    assert int8
    assert all(row.precision == "int8" for row in int8)
    assert all("ncnn" in row.runtime.lower() for row in device_rows(runtime="ncnn"))
    with pytest.raises(InputError, match="no device profile passes"):
        device_rows(precision="fp32", runtime="abacus")


def test_rows_are_found_by_kind_vendor_and_text():
    assert {row.kind for row in device_rows(kind="npu")} == {"npu"}
    assert {row.vendor for row in device_rows(vendor="nvid")} == {"NVIDIA"}
    jetsons = device_rows(text="JETSON")
    assert {row.name for row in jetsons} >= {"orin-nano-gpu-tensorrt-fp16", "jetson-nano-cpu-ncnn-fp32-1t"}
    assert all("jetson" in " ".join(row.texts()).lower() for row in jetsons)
    assert len(device_rows(kind="cpu")) + len(device_rows(kind="gpu")) + len(device_rows(kind="npu")) == len(
        list_profiles()
    )
    with pytest.raises(InputError, match="no device profile passes"):
        device_rows(kind="gpu", vendor="rockchip")


@pytest.mark.parametrize("words", [[], ["--npu"], ["--vendor", "qualcomm"], ["jetson"]])
def test_the_table_of_devices_fits_80_columns(words):
    done = CliRunner().invoke(devices, words)
    assert done.exit_code == 0
    assert max(len(line) for line in done.output.splitlines()) <= 80
    assert ("kv260-dpu-int8" in done.output) == (words in ([], ["--npu"]))


def test_a_text_is_looked_for_and_a_misspelt_name_is_told():
    assert "rk3588-npu-rknn-int8" in CliRunner().invoke(devices, ["rk3588"]).output
    page = CliRunner().invoke(devices, ["rk3588-npu-rknn-int8"]).output
    assert "Channel staircase" in page
    missed = CliRunner().invoke(devices, ["rpi4-ncnn-fp32-1x"])
    assert isinstance(missed.exception, InputError)


@pytest.mark.parametrize("name", list_profiles())
def test_page_names_what_a_reader_needs(name):
    profile = load_profile(name)
    page = describe_profile(profile)
    assert all(len(line) <= 80 for line in page.splitlines() if "http" not in line)
    for word in (profile.name, "How right it is", "Channel staircase", profile.provenance.licence.split()[0]):
        assert word in page


def test_all_stands_for_every_profile_once():
    assert named_devices(["all"]) == list_profiles()
    assert named_devices(["host", "rpi4-ncnn-fp32-1t", "all"])[:2] == ["host", "rpi4-ncnn-fp32-1t"]
    assert len(named_devices(["rpi4-ncnn-fp32-1t", "all"])) == len(list_profiles())


def test_a_device_that_cannot_cost_the_network_does_not_hide_the_others(tmp_path):
    document = dict(load_profile("rpi4-ncnn-fp32-1t").document)
    document |= {"name": "pools-only", "kernels": {"pool": document["kernels"]["pool"]}}
    path = tmp_path / "pools.json"
    path.write_text(json.dumps(document))
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1)), torch.randn(1, 3, 8, 8)
    plans = feasibility(net, x, [str(path), "rpi4-ncnn-fp32-1t"], Budget(macs="60%"))
    assert "cannot cost conv2d" in plans[0]["refused"]
    assert [plan["feasible"] for plan in plans] == [False, True]
    with pytest.raises(InputError, match="cannot cost conv2d"):
        feasibility(net, x, [str(path)], Budget(macs="60%"))
