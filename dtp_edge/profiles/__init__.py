"""What a device's file says: schema-checked profiles, each number with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtp_edge import lazy_face

if TYPE_CHECKING:
    from dtp_edge.profiles.profile import Profile as Profile
    from dtp_edge.profiles.profile import parse_profile as parse_profile
    from dtp_edge.profiles.profile import read_profile as read_profile
    from dtp_edge.profiles.profile import save_profile as save_profile
    from dtp_edge.profiles.schema import profile_schema as profile_schema
    from dtp_edge.profiles.shipped import list_profiles as list_profiles
    from dtp_edge.profiles.shipped import profiles_dir as profiles_dir

_HOMES = {
    "Profile": "profile",
    "list_profiles": "shipped",
    "parse_profile": "profile",
    "profile_schema": "schema",
    "profiles_dir": "shipped",
    "read_profile": "profile",
    "save_profile": "profile",
}

__getattr__, __dir__, __all__ = lazy_face(__name__, _HOMES)
