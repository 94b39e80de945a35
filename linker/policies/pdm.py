"""PDM: what pdm does with a wheel from its cache of packages.

On Windows it asks by a file of its own in the temporary directory whether links can be made at all,
elsewhere it takes them for granted; what was chosen then never falls back: after an error the
package is tried once more, and then the installation ends. The second try refuses the symlinks that
the first has left, as leading out of the target.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, graph, modelled, stops
from linker.policy import PRIMITIVES, Promise, State, Step, edges


def _platform(platform: str) -> Rows:
    tried = (
        (LinkMode.SYMLINK, State.INITIAL),
        (LinkMode.HARDLINK, State.ANY),
        (LinkMode.COPY, State.ANY),
    )
    return graph(
        platform,
        *(
            edges(platform, mode, PRIMITIVES[mode], all_but(), Step.RETRY, state=state)
            for mode, state in tried
        ),
        stops(platform, LinkMode.SYMLINK, state=State.ESTABLISHED),
    )


PDM = modelled(
    name="pdm",
    rows=_platform,
    source="pdm-project/pdm src/pdm/installers/installers.py as in pdm 2.29.3, November 2026",
    default=LinkMode.SYMLINK,
    retries=1,
    waives=frozenset(Promise) - {Promise.PLAIN_COPY},
)
