"""Where the state of a run lies: in the stash of its config, from its first use on.

There is none in a run that uses nothing of ours and asks for nothing, which is why this is apart
from what a `Session` is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_linkmode.judging import Judgement, Misread
    from pytest_linkmode.sessions import Session

KEY: pytest.StashKey[Session] = pytest.StashKey()
"""Under it lies the state of a run, once there is any."""

ASKED: pytest.StashKey[bool] = pytest.StashKey()
"""Under it lies whether anything was asked for of a run, as it was when the run was configured."""

JUDGEMENT: pytest.StashKey[Judgement | Misread] = pytest.StashKey()
"""Under it lies what came of a run, once it is over."""


def running(config: pytest.Config) -> Session | None:
    """Return the state of this run, if anything of ours was asked for, collected or run."""
    return config.stash.get(KEY, None)


def session_of(config: pytest.Config) -> Session:
    """Return the state of this run, made on its first use."""
    session = config.stash.get(KEY, None)
    if session is None:
        from pytest_linkmode.sessions import Session

        session = Session(config, config.option, is_explicit=config.stash[ASKED])
        config.stash[KEY] = session
        config.add_cleanup(session.close)
    return session
