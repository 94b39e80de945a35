"""The fallback graphs of the systems we model, one file each, and our own `REFERENCE`.

Only what is used is made: a link by `REFERENCE` pays for no other system's graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from linker.light import TYPE_CHECKING
from linker.policies.reference import REFERENCE
from linker.policy import Policy

if TYPE_CHECKING:
    from linker.policies.bun import BUN
    from linker.policies.cacache import CACACHE
    from linker.policies.coreutils import (
        COREUTILS,
        COREUTILS_8,
        COREUTILS_9_0,
        COREUTILS_9_2,
        COREUTILS_ALWAYS,
    )
    from linker.policies.cpython import CPYTHON
    from linker.policies.dvc import DVC
    from linker.policies.orogene import OROGENE
    from linker.policies.pdm import PDM
    from linker.policies.pip import PIP
    from linker.policies.pnpm import (
        PNPM_11,
        PNPM_11_CLONE,
        PNPM_11_CLONE_OR_COPY,
        PNPM_11_HARDLINK,
        PNPM_12,
        PNPM_12_CLONE,
        PNPM_12_CLONE_OR_COPY,
        PNPM_12_HARDLINK,
    )
    from linker.policies.pnpm import PNPM_12 as PNPM
    from linker.policies.rattler import RATTLER
    from linker.policies.reflink_copy import REFLINK_COPY
    from linker.policies.uv import UV
    from linker.policies.yarn import YARN

_HOMES: Mapping[str, str] = {
    "reference": "reference",
    "uv": "uv",
    "pnpm-11": "pnpm",
    "pnpm-11-hardlink": "pnpm",
    "pnpm-11-clone": "pnpm",
    "pnpm-11-clone-or-copy": "pnpm",
    "pnpm-12": "pnpm",
    "pnpm-12-hardlink": "pnpm",
    "pnpm-12-clone": "pnpm",
    "pnpm-12-clone-or-copy": "pnpm",
    "bun": "bun",
    "orogene": "orogene",
    "cacache": "cacache",
    "reflink-copy": "reflink_copy",
    "pip": "pip",
    "pdm": "pdm",
    "dvc": "dvc",
    "rattler": "rattler",
    "yarn": "yarn",
    "cpython": "cpython",
    "coreutils": "coreutils",
    "coreutils-9-2": "coreutils",
    "coreutils-9-0": "coreutils",
    "coreutils-8": "coreutils",
    "coreutils-always": "coreutils",
}
"""Name of a policy -> the module that has it."""

ALIASES: Mapping[str, str] = {"pnpm": "pnpm-12"}
"""Other names that people may use."""


class _Policies(Mapping[str, Policy]):
    """Every policy by its name, made when it is asked for."""

    def __getitem__(self, name: str) -> Policy:
        name = ALIASES.get(name, name)
        policy: Policy = getattr(
            import_module(f"{__name__}.{_HOMES[name]}"), name.upper().replace("-", "_")
        )
        return policy

    def __iter__(self) -> Iterator[str]:
        return iter(_HOMES)

    def __len__(self) -> int:
        return len(_HOMES)


ALL: Mapping[str, Policy] = _Policies()
"""Every policy that ships, by its name in lower case; also by the names in `ALIASES`."""

__all__ = [
    "ALIASES",
    "ALL",
    "BUN",
    "CACACHE",
    "COREUTILS",
    "COREUTILS_8",
    "COREUTILS_9_0",
    "COREUTILS_9_2",
    "COREUTILS_ALWAYS",
    "CPYTHON",
    "DVC",
    "OROGENE",
    "PDM",
    "PIP",
    "PNPM",
    "PNPM_11",
    "PNPM_11_CLONE",
    "PNPM_11_CLONE_OR_COPY",
    "PNPM_11_HARDLINK",
    "PNPM_12",
    "PNPM_12_CLONE",
    "PNPM_12_CLONE_OR_COPY",
    "PNPM_12_HARDLINK",
    "RATTLER",
    "REFERENCE",
    "REFLINK_COPY",
    "UV",
    "YARN",
]


def __getattr__(name: str) -> Policy:
    """Make a policy that is asked for by its constant."""
    known = name.lower().replace("_", "-")
    if not name.isupper() or known not in {*_HOMES, *ALIASES}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return ALL[known]
