"""Where linking cannot work, that is said, and the target is what it was before."""

from __future__ import annotations

import os
import pathlib

import pytest

from linker.modes import LinkMode
from linker.report import LinkError
from pytest_linkmode.adapters import Adapter, AdapterError
from pytest_linkmode.conformance.cases import Case, assert_unchanged, names
from pytest_linkmode.layouts import Layout
from pytest_linkmode.samples import TREE, Directory, File, write_tree
from pytest_linkmode.snapshots import snapshot

THEIRS = (
    File("ns/gamma/core.py", 4000),
    File("package/module.py", 5000, 0o600),
    Directory("ns/delta"),
)
"""What is in the target before; one name of it is a name of the source too."""

# Whoever makes a read-only directory bit by bit has to keep a note of it, and that takes space.
WRITABLE = tuple(row for row in TREE if not row.path.startswith("locked"))


@pytest.fixture
def refused(
    refusing_layout: Layout,
    link_mode: LinkMode,
    linkmode_linker: Adapter,
) -> Case:
    """A case in which linking must fail, with something in the target, sealed."""
    case = Case(linkmode_linker, link_mode, refusing_layout)
    write_tree(case.source, WRITABLE)
    if case.layout.row.across:
        case.leave_out_what_cannot_arrive()
    write_tree(case.target, THEIRS)
    case.layout.seal()
    case.linker.prepare(case.source)
    return case


def failed(case: Case) -> AdapterError | None:
    """Link, and return what the linker failed with, if it did."""
    try:
        case.link()
    except AdapterError as error:
        return error
    return None


def test_what_cannot_be_done_is_said(refused: Case) -> None:
    condition = refused.layout.failure(refused.mode)
    error = failed(refused)
    if error is not None:
        assert condition is not None, f"it must work here: {error}"
        cause = error.__cause__
        told = cause.condition if isinstance(cause, LinkError) else None
        assert told in (None, condition), f"it fails for another reason: {error}"
    elif condition is None:
        refused.check(existed=["ns", "package"], ignore=["gamma", "delta"])
    else:
        # Whoever finds a way that the policy does not know must have done all of it.
        missing = set(names(refused.source)) - set(names(refused.target))
        assert not missing, f"it claims success, and linking must fail ({condition})"
        wrong = [
            name
            for name in refused.source_files()
            if (refused.source / name).read_bytes() != (refused.target / name).read_bytes()
        ]
        assert not wrong, f"it claims success, and linking must fail ({condition})"


def test_a_refusal_leaves_the_target_as_it_was(refused: Case) -> None:
    before, beside = snapshot(refused.target), sorted(os.listdir(refused.target.parent))
    source = snapshot(refused.source)
    elsewhere = pathlib.Path(f"{refused.target}-elsewhere")
    if failed(refused) is not None:
        # Directories were made and removed in some: their times move on.
        assert_unchanged("the target", before, snapshot(refused.target), but={"mtime"})
        assert sorted(os.listdir(refused.target.parent)) == beside
    assert_unchanged("the source", source, snapshot(refused.source))
    # Where a directory of the target is a symlink, that is where it leads.
    assert not elsewhere.exists() or os.listdir(elsewhere) == []
