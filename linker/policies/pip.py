"""PIP: what pip does with a wheel: it writes each file out of the archive, and knows no links.

With --target it does so in the directory for temporary files, of which whole directories are moved
in the end: after an error nothing is left. Times are those of the installation, permission bits
those that the umask leaves, with the exec bits of the archive.
"""

from __future__ import annotations

from linker.modes import LinkMode
from linker.policies.rows import graph, modelled
from linker.policy import Promise

PIP = modelled(
    name="pip",
    rows=graph,
    source="pypa/pip src/pip/_internal/operations/install/wheel.py and commands/install.py "
    "(_handle_target_dir) as in pip 26.3, November 2026",
    default=LinkMode.COPY,
    undo=True,
    waives=frozenset(Promise) - {Promise.PLAIN_COPY},
)
