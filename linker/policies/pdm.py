"""PDM: what pdm does with a wheel from its cache of packages.

On Windows it asks by a file of its own in the temporary directory whether links can be made at all,
elsewhere it takes them for granted; what was chosen then never falls back: an error of a symlink or
hardlink ends the installation.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import Rows, graph, modelled, stops
from linker.policy import Promise


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        stops(platform, LinkMode.SYMLINK),
        stops(platform, LinkMode.HARDLINK),
    )


PDM = modelled(
    name="pdm",
    rows=_platform,
    source="pdm-project/pdm src/pdm/installers/installers.py as in pdm 2.29.4, November 2026",
    default=LinkMode.SYMLINK,
    waives=frozenset(Promise) - {Promise.PLAIN_COPY},
)
