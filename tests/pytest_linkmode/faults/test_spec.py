"""Faults are written as one line, and read back as they were."""

from __future__ import annotations

import errno
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_linkmode.errors import UsageError
from pytest_linkmode.faults import Fault, Kill
from pytest_linkmode.faults.spec import EFFECTS, ERRORS, MET, OPS, format_fault, parse
from tests.profiles import PROFILE

WORDS = st.text(min_size=1, max_size=20).filter(lambda text: text == text.strip())
WHERE = {
    "nth": st.none() | st.integers(1, 10**6),
    "path": st.none() | WORDS,
    "below": st.none() | WORDS,
    "way": st.none() | st.sampled_from(("linkat", "copy_file_range")),
}


@settings(PROFILE)
@given(
    st.builds(Fault, st.sampled_from(OPS), st.sampled_from(ERRORS), **WHERE)
    | st.builds(Kill, st.sampled_from(OPS), when=st.sampled_from(("before", "after")), **WHERE)
)
def test_what_is_written_is_read_back(fault: Fault | Kill) -> None:
    assert parse(format_fault(fault)) == fault


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "clone:EOPNOTSUPP:path=*/numpy/__init__.py",
            Fault("clone", "EOPNOTSUPP", path="*/numpy/__init__.py"),
        ),
        ("copy:SHORT", Fault("copy", "SHORT")),
        ("hardlink:NOEFFECT:nth=3", Fault("hardlink", "NOEFFECT", nth=3)),
        ("rename:kill-after:nth=2", Kill("rename", 2, "after")),
        ("mkdir:kill-before", Kill("mkdir")),
        (r"create:EIO:path=a\:b\\c:below=/t", Fault("create", "EIO", path="a:b\\c", below="/t")),
    ],
)
def test_a_line_reads_as(line: str, fault: Fault | Kill) -> None:
    assert parse(line) == fault
    assert format_fault(fault) == line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("clone", "an op and an error"),
        ("klone:EIO", "did you mean 'clone'"),
        ("reflink:EXDEV", "did you mean 'clone'"),
        ("link:EXDEV", "did you mean 'hardlink'"),
        ("rmdir:EBUSY", "did you mean 'unlink'"),
        ("copy_file_range:EIO", "did you mean 'copy'"),
        ("nonsense:EIO", "hint: as in clone"),
        ("clone:EOPNOTSUP", "did you mean 'EOPNOTSUPP'"),
        ("clone:EIO:nth=0", "counted from 1"),
        ("clone:EIO:nth=one", "no whole number"),
        ("clone:EIO:times=3", "nth=, path=, below= and way="),
        ("clone:EIO:nth=1:nth=2", "each once"),
        ("rename:SHORT", "only clone, copy can"),
        ("create:NOEFFECT", "create cannot have NOEFFECT"),
    ],
)
def test_a_line_that_means_nothing_says_what_was_expected(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse(line)


def test_a_kill_is_before_or_after() -> None:
    with pytest.raises(UsageError, match="'before' or 'after'"):
        Kill("rename", when="during")  # type: ignore[arg-type]


def test_every_error_of_the_tables_has_a_number_here_or_is_an_effect() -> None:
    assert set(MET) == set(OPS)
    for op, errors in MET.items():
        assert len(set(errors)) == len(errors)
        for error in errors:
            assert Fault(op, error).number == getattr(errno, error, None)
            assert hasattr(errno, error) or op in EFFECTS[error]


def test_only_a_fault_that_depends_on_nothing_is_always() -> None:
    assert Fault("clone", "EIO").always
    assert Fault("clone", "EIO", way="ioctl").always
    for depends in (
        Fault("clone", "EIO", nth=1),
        Fault("clone", "EIO", path="*"),
        Fault("clone", "EIO", below="/t"),
        Fault("clone", "EINTR"),
        Fault("clone", "NOEFFECT"),
    ):
        assert not depends.always


@pytest.mark.faked("symlinks")
def test_below_means_also_what_links_lead_to(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "away").symlink_to(tmp_path)
    for below in ("real", "link"):
        meant = Fault("mkdir", "EIO", below=str(tmp_path / below)).matches
        for path in ("link/x", "real/x", "link/away", "link/away/real/x"):
            assert meant((str(tmp_path / path),), 1), path
        assert not meant((str(tmp_path / "link"),), 1)
        assert not meant((str(tmp_path / "elsewhere"),), 1)
        assert not meant((str(tmp_path / "link/x"), str(tmp_path / "y")), 1)
