"""Every file ends in the mode that the policy says, proven from disk."""

from __future__ import annotations

import os

import pytest

from pytest_linkmode.conformance.cases import Case, names
from pytest_linkmode.evidence import Proof, evidence
from pytest_linkmode.samples import ODD_NAMES, File, content, write_tree

LARGE = File("package/large.bin", 300_000)
SMALL = File("package/small.py", 300)
EMPTY = File("package/__init__.py")


def test_every_file_ends_in_the_mode_that_the_policy_says(sample: Case) -> None:
    sample.link()
    sample.check(stat=())


@pytest.mark.parametrize("file", [LARGE, SMALL, EMPTY], ids=["large", "small", "empty"])
def test_a_file_alone_ends_in_that_mode_too(case: Case, file: File) -> None:
    write_tree(case.source, [file])
    case.linker.prepare(case.source)
    case.link()
    found = evidence(case.source / file.path, case.target / file.path)
    assert found.allows(case.modes[file.path]), found
    assert (case.target / file.path).read_bytes() == content(file)


def test_the_mode_is_proven_and_not_only_possible(case: Case) -> None:
    write_tree(case.source, [LARGE])
    case.linker.prepare(case.source)
    case.link()
    found = evidence(case.source / LARGE.path, case.target / LARGE.path)
    told = {Proof.INDEPENDENCE}  # a filesystem that does not say where data lies
    expected = case.modes[LARGE.path]
    assert found.mode is expected or (found.proof in told and found.allows(expected))


def test_symlinks_are_recreated_as_they_are(sample: Case) -> None:
    sample.link()
    links = [name for name in names(sample.source) if (sample.source / name).is_symlink()]
    texts = {name: os.readlink(sample.source / name) for name in links}
    if not texts:
        pytest.skip(f"not applicable: no symlinks in {sample.layout.name}")
    assert len(texts) > 5
    assert {name: os.readlink(sample.target / name) for name in links} == texts


def test_every_odd_name_arrives(case: Case) -> None:
    rows = [File(name, 10, odd=True) for name in ODD_NAMES]
    write_tree(case.source, [*rows, File("package/module.py", 10)])
    case.leave_out_what_cannot_arrive()
    case.linker.prepare(case.source)
    case.link()
    assert len(os.listdir(case.source)) > len(ODD_NAMES) // 2
    assert sorted(os.listdir(case.target)) == sorted(os.listdir(case.source))
    case.check(stat=())


def test_an_empty_tree_gives_an_empty_tree(case: Case) -> None:
    if case.layout.row.region:
        pytest.skip(f"not applicable: {case.layout.name} puts a directory into the target")
    case.linker.prepare(case.source)
    case.link()
    assert names(case.target) == []


def test_holes_stay_holes(sample: Case) -> None:
    if not sample.has_holes():
        pytest.skip(f"not applicable: files have no holes in {sample.layout.name}")
    sample.link()
    for name in ("data/hole", "data/sparse"):
        ours, theirs = (sample.source / name).stat(), (sample.target / name).stat()
        # In units of 512 bytes; filesystems differ in what they count besides data.
        assert theirs.st_blocks <= ours.st_blocks + 128, name
