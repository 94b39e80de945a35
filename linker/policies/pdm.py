"""PDM: what pdm does with a wheel from its cache of packages.

On Windows it asks by a file of its own in the temporary directory whether links can be made at all,
elsewhere it takes them for granted; what was chosen then never falls back: after an error of a
symlink or hardlink the package is tried once more, and then the installation ends.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, graph, modelled
from linker.policy import PRIMITIVES, Promise, Step, edges


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        *(
            edges(platform, mode, PRIMITIVES[mode], all_but(), Step.RETRY)
            for mode in (LinkMode.SYMLINK, LinkMode.HARDLINK)
        ),
    )


PDM = modelled(
    name="pdm",
    rows=_platform,
    source="pdm-project/pdm src/pdm/installers/installers.py as in pdm 2.29.4, November 2026",
    default=LinkMode.SYMLINK,
    retries=1,
    waives=frozenset(Promise) - {Promise.PLAIN_COPY},
)
