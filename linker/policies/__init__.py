"""The fallback graphs of the systems we model, one file each, and our own `REFERENCE`."""

from __future__ import annotations

from linker.policies.reference import REFERENCE
from linker.policies.uv import UV
from linker.policy import Policy

ALL: dict[str, Policy] = {policy.name: policy for policy in (REFERENCE, UV)}
"""Every policy that ships, by its name in lower case."""

__all__ = ["ALL", "REFERENCE", "UV"]
