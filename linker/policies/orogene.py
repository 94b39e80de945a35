"""OROGENE: what orogene does when it extracts a package from its cache.

It tries once whether the cache can be cloned into node_modules. Where it can, each file is cloned,
and after any error copied; where it cannot, each file is hardlinked, several times over after an
error, and then cloned or copied. Modes that are asked for explicitly do not fall back, but for
hardlink. Only read, not run: orogene is in no package index that this project can reach.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, falls, graph, modelled
from linker.policy import PRIMITIVES, Memory, State, Step, edges

_CLONE, _HARDLINK, _COPY = LinkMode.CLONE, LinkMode.HARDLINK, LinkMode.COPY


def _platform(platform: str) -> Rows:
    return graph(
        platform,
        # The trial is the first clone: refused, it moves the whole installation to hardlinks.
        falls(
            platform,
            _CLONE,
            _HARDLINK,
            all_but(),
            state=State.INITIAL,
        ),
        falls(platform, _CLONE, _COPY, all_but(), state=State.ESTABLISHED, memory=Memory.FILE),
        # The clone in between was refused by the trial already.
        edges(
            platform,
            _HARDLINK,
            PRIMITIVES[_HARDLINK],
            all_but(),
            Step.RETRY,
            _COPY,
            memory=Memory.FILE,
        ),
    )


OROGENE = modelled(
    name="orogene",
    rows=_platform,
    source="orogene/orogene crates/nassun/src/tarball.rs at d454abf, read November 2026; not run",
    default=_CLONE,
    memory=Memory.PROCESS,
    retries=3,
)
