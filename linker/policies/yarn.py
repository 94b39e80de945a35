"""YARN: what yarn berry does when its copy algorithm is asked for links.

Clone; ENOSYS or ENOTSUP of the first means hardlinks for the rest of the process, every other error
is thrown, "cross-device" too. In the mode hardlinks-global of its linker node-modules, a hardlink
that fails is tried again with a file of the store made anew; what is "cross-device" then is a copy.
After any other error that file is left out, which is noticed where it is an executable one, whose
permission bits cannot be set then; else yarn says that it is done. From zip archives files are
written, which is what yarn does where nobody asks for links.
Times and permission bits are set on everything afterwards.
"""

from __future__ import annotations

from linker.conditions import Condition as C
from linker.modes import LinkMode
from linker.policies.rows import Rows, all_but, falls, graph, modelled, stops, told_apart
from linker.policy import PRIMITIVES, Memory, Promise, State, Step, edges


def _platform(platform: str) -> Rows:
    hardlink, copy = LinkMode.HARDLINK, LinkMode.COPY
    return graph(
        platform,
        falls(
            platform,
            LinkMode.CLONE,
            LinkMode.HARDLINK,
            (C.UNSUPPORTED,),
            state=State.INITIAL,
        ),
        told_apart(platform, LinkMode.CLONE, Step.ABORT, ("EISDIR", "ENOTTY"), state=State.INITIAL),
        stops(platform, LinkMode.CLONE, state=State.ESTABLISHED),
        edges(platform, hardlink, PRIMITIVES[hardlink], (C.CROSS_DEVICE,), Step.RETRY, copy),
        edges(
            platform,
            hardlink,
            PRIMITIVES[hardlink],
            all_but(C.CROSS_DEVICE),
            Step.RETRY,
            Step.SKIP,
        ),
    )


YARN = modelled(
    name="yarn",
    rows=_platform,
    source="yarnpkg/berry packages/yarnpkg-fslib/sources/algorithms/copyPromise.ts at 0070ca0, "
    "read November 2026; held against yarn 4.18.1",
    default=LinkMode.COPY,
    memory=Memory.PROCESS,
    retries=1,
    waives=frozenset({Promise.PLAIN_COPY, Promise.WHOLE_NAMES, Promise.TOLD}),
)
