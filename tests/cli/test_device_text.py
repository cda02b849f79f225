"""The list and the page of devices."""

from __future__ import annotations

import pytest

from dtp_edge.cli.device_text import describe_profile, device_rows
from dtp_edge.errors import InputError
from dtp_edge.measure import load_profile
from dtp_edge.profiles import list_profiles


def test_rows_cover_every_shipped_profile_and_filter():
    assert [row.name for row in device_rows()] == list_profiles()
    int8 = device_rows(precision="INT8")
    assert int8
    assert all(row.precision == "int8" for row in int8)
    assert all("ncnn" in row.runtime.lower() for row in device_rows(runtime="ncnn"))
    with pytest.raises(InputError, match="no device profile passes"):
        device_rows(precision="fp32", runtime="abacus")


@pytest.mark.parametrize("name", list_profiles())
def test_page_names_what_a_reader_needs(name):
    profile = load_profile(name)
    page = describe_profile(profile)
    assert all(len(line) <= 80 for line in page.splitlines() if "http" not in line)
    for word in (profile.name, "How right it is", "Channel staircase", profile.provenance.licence.split()[0]):
        assert word in page
