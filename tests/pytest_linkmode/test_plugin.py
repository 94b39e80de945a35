"""The plugin as a user meets it: header, usage errors, skips, fixtures, namespaces."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Callable

import pytest

import pytest_linkmode
from pytest_linkmode import namespaces
from tests.pytest_linkmode.places import ACROSS, DIRECTORIES

Run = Callable[..., pytest.RunResult]


USES = """
def test_it(linkmode_layout, link_mode): ...
"""


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester) -> None:
    """A machine without the tools that make filesystems, whatever this one has."""
    monkeypatch.setattr("pytest_linkmode.processes.which", lambda tool: None)


# The header


def test_the_header_is_what_one_would_type(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(USES)
    pytester.makeini(f"[pytest]\nlinkmode_namespace = host\nlinkmode_layout = disk {ACROSS}\n")
    result = inside()
    # This process has told an ordinary user by now why there is no private one.
    who = ", root" if os.geteuid() == 0 else f"(: no private [^\n]*)?, uid {os.geteuid()}"
    asked = re.escape(f"linkmode: --linkmode-layout=disk,{ACROSS} --linkmode-namespace=host ")
    result.stdout.re_match_lines([rf"{asked}\(host namespace{who}\)$"])


def test_a_run_that_asks_for_nothing_has_no_header(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): ...")
    result = inside()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*linkmode: *")
    result.stdout.no_fnmatch_line("*= linkmode =*")


def test_a_variable_of_the_shell_asks_for_nothing(
    inside: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINKMODE_DIR_DISK", str(pytester.path))
    pytester.makepyfile("def test_it(): ...")
    result = inside()
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*linkmode: *")
    pytester.makepyfile(
        f"""
        def test_it(linkmode_fs):
            assert linkmode_fs.path.is_relative_to({str(pytester.path)!r})
        """
    )
    inside(*DIRECTORIES, "-k", "disk").assert_outcomes(passed=1, deselected=1)


# Usage errors


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--linkmode-fs=btrsf", "did you mean 'btrfs'"),
        ("--linkmode-layout=disk:shmm", "did you mean"),
        ("--linkmode-layout=ext4+subvolume", "btrfs+subvolume"),
        ("--linkmode-require=reflinks", "did you mean 'reflink'"),
        ("--linkmode-policy=refrence", "did you mean 'reference'"),
        ("--linkmode-policy=os:getcwd", "is no policy"),
        ("--linkmode-policy=nothing.of.that.name:X", "nothing"),
        ("--linkmode-linker=nothing.of.that.name:link", "nothing"),
        ("--linkmode-image-dir=nowhere", "/nowhere: it is no directory"),
        ("--linkmode-provider=lop", "no provider is called 'lop'"),
        ("--linkmode-tmp=btrsf", "did you mean 'btrfs'"),
        ("--linkmode-dir=btrsf=/tmp", "did you mean 'btrfs'"),
        ("--linkmode-namespace=hots", "did you mean 'host'"),
        ("--linkmode-report=report.pdf", ".json"),
    ],
)
def test_a_wrong_word_ends_the_run_before_collection(
    argument: str, words: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("raise SystemExit('collected')")
    extra = () if argument.startswith("--linkmode-namespace") else DIRECTORIES[1:]
    result = inside(argument, *extra)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words}*"])
    assert "Traceback" not in str(result.stderr)


WORTHLESS = [
    ("no-such-program {mode} {source} {target}", "is in no directory of PATH"),
    ("./gone {mode} {source} {target}", "there is no such file"),
    ("copy=/etc/passwd {source} {target}", "may not execute it"),
]


@pytest.mark.parametrize(("linker", "words"), WORTHLESS)
def test_a_linker_that_cannot_run_passes_no_test_of_the_suite(
    linker: str, words: str, inside: Run
) -> None:
    suite = ("--pyargs", "pytest_linkmode.conformance", "-k", "refused or target")
    result = inside(f"--linkmode-linker={linker}", *DIRECTORIES, *suite)
    if linker.startswith(("no-such", "copy=/etc")):  # which nobody builds
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{words}*"])
        return
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes().keys() <= {"errors", "deselected", "skipped"}
    result.stdout.fnmatch_lines([f"*{words}*"])


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("./directory", "it is a directory"),
        ("./file", "this user may not execute it"),
        ("~/linker", "no shell reads the command line"),
        ("$HOME/linker", "no shell reads the command line"),
        ("MODE=1 ./linker", "no shell reads the command line"),
        ("ROOT=/tmp ./linker", "no shell reads the command line"),
    ],
)
def test_a_linker_that_no_test_can_build_ends_the_run_before_it_begins(
    program: str, words: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.mkdir("directory")
    (pytester.path / "file").touch(0o644)
    pytester.makepyfile("def test_it(linkmode_linker): pass")
    result = inside(f"--linkmode-linker=copy={program} {{source}} {{target}}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words}*"])


@pytest.mark.parametrize(("linker", "words"), WORTHLESS)
def test_it_is_missed_by_the_tests_that_drive_it(
    linker: str, words: str, inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeini(f"[pytest]\nlinkmode_linker = {linker}\nlinkmode_image_dir = nowhere")
    pytester.makepyfile("def test_plain(): pass\ndef test_it(linkmode_linker): pass")
    result = inside(*DIRECTORIES[1:])
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"*{words}*"])


def test_a_linker_may_be_built_by_the_tests_that_drive_it(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.fixture(scope="session")
        def built():
            with open("linker", "w") as script:
                script.write("#!/bin/sh\\nexec cp -a $1/. $2")
            os.chmod("linker", 0o755)

        def test_it(built, linkmode_linker):
            assert [str(mode) for mode in linkmode_linker.modes()] == ["copy"]
        """
    )
    linker = "--linkmode-linker=copy=./linker {source} {target}"
    inside(linker, *DIRECTORIES[1:]).assert_outcomes(passed=1)


@pytest.mark.usefixtures("no_tools")
def test_what_was_asked_for_by_name_and_cannot_be_had_is_a_usage_error(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("raise SystemExit('collected')")
    result = inside("--linkmode-fs=btrfs,xfs", "--linkmode-namespace=host")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = str(result.stderr)
    assert "ERROR: --linkmode-fs=btrfs,xfs: btrfs, xfs cannot be had here" in said
    assert "Checked:" in said
    assert "mkfs.btrfs" in said
    assert "mkfs.xfs" in said
    assert "To fix this, either:" in said
    assert "--linkmode-dir=btrfs=" in said


@pytest.mark.usefixtures("no_tools")
def test_collecting_only_looks_for_what_is_missing_and_makes_nothing(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(USES)
    result = inside("--linkmode-fs=btrfs", "--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*mkfs.btrfs*"])
    assert inside("--linkmode-fs=btrfs?", "--collect-only").ret == pytest.ExitCode.OK


def test_a_directory_that_is_not_what_it_was_named_for_is_a_usage_error(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(USES)
    result = inside("--linkmode-dir=btrfs=/dev/shm", *DIRECTORIES)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*/dev/shm: *not on btrfs*"])


@pytest.mark.parametrize(
    "argument",
    ["--help", "--version", "--markers", "--fixtures", "--fixtures-per-test", "--cache-show"],
)
@pytest.mark.usefixtures("no_tools", "host_place")
def test_runs_that_only_show_something_ask_for_nothing(
    argument: str, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\nlinkmode_fs = btrfs\nlinkmode_report = r.json\n")
    pytester.makepyfile("def test_it(tmp_path): ...")
    result = pytester.runpytest_inprocess(argument)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.no_fnmatch_line("*no test ran*")
    assert not (pytester.path / "r.json").exists()


def test_help_names_every_option_with_its_ini_key(inside: Run) -> None:
    said = str(inside("--help").stdout)
    for name in ("fs", "layout", "tmp", "dir", "provider", "namespace", "linker", "policy"):
        assert f"--linkmode-{name}=" in said
        assert f"linkmode_{name} (" in said
    assert "fewer than N % of" in said


def test_the_marker_and_the_fixtures_are_documented(inside: Run) -> None:
    inside("--markers").stdout.fnmatch_lines(["@pytest.mark.linkmode(fs, layout, *"])
    said = str(inside("--fixtures").stdout)
    for name in (
        "linkmode_layout",
        "linkmode_fs",
        "link_mode",
        "linkmode_tree",
        "linkmode_linker",
        "linkmode_fs_factory",
        "linkmode_layout_factory",
    ):
        _, _, rest = said.partition(f"\n{name} ")
        assert rest
        assert "no docstring available" not in rest.split("\n\n")[0]


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        (
            ("LINKMODE_DIR_BTRSF", os.getcwd()),
            "--linkmode-dir=btrsf=*no filesystem is called*",
        ),
        (("LINKMODE_DIR_DISK", "here"), "*LINKMODE_DIR_DISK=here*must be absolute*"),
    ],
)
def test_a_variable_that_cannot_be_right_is_told_at_the_end_of_a_run_that_uses_ours(
    variable: tuple[str, str],
    words: str,
    inside: Run,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(*variable)
    pytester.makepyfile(
        """
        def test_other(): ...
        def test_it(linkmode_linker): ...
        """
    )
    result = inside()
    assert result.parseoutcomes()["passed"] >= 1
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*= linkmode =*", words])


# Beside what others do


def test_the_exit_status_that_another_plugin_gives_a_green_run_stays(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionfinish(session):
            session.exitstatus = 7
        """
    )
    pytester.makepyfile("def test_it(linkmode_fs): ...")
    assert inside(*DIRECTORIES).ret == 7


def test_what_others_vary_their_tests_over_and_note_is_not_looked_into(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        class Lazy:
            def __getattr__(self, name):
                raise RuntimeError("outside of a request")

        @pytest.mark.parametrize("proxy", [pytest.param(Lazy(), id="proxy")])
        def test_theirs(proxy, request):
            request.node.user_properties.append({"a": 1})

        def test_ours(linkmode_fs): ...
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(passed=3)
    assert result.ret == pytest.ExitCode.OK


def test_options_of_every_run_do_not_speak_of_a_single_test(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makeini(f"[pytest]\naddopts = {' '.join(DIRECTORIES)}\n")
    pytester.makepyfile(
        """
        def test_other(): ...
        def test_it(linkmode_fs): ...
        """
    )
    (module,) = pytester.path.glob("test_*.py")
    assert inside(f"{module.name}::test_other").ret == pytest.ExitCode.OK
    assert inside("-k", "test_other").ret == pytest.ExitCode.TESTS_FAILED
    typed = inside(f"{module.name}::test_other", "--linkmode-layout=disk")
    assert typed.ret == pytest.ExitCode.TESTS_FAILED
    typed.stdout.fnmatch_lines(["--linkmode-layout=disk*: no test ran*"])
    (pytester.path / "arguments.txt").write_text("--linkmode-layout=disk\n")
    read = inside(f"{module.name}::test_other", "@arguments.txt")
    assert read.ret == pytest.ExitCode.TESTS_FAILED


# A `linker` of the project's own


@pytest.mark.parametrize("options", [(), DIRECTORIES], ids=["idle", "asked"])
@pytest.mark.parametrize(
    "suite", [USES, "from pytest_linkmode import assert_linked\ndef test_it(): ..."]
)
def test_a_namesake_of_the_linker_beside_tests_is_named_whichever_is_imported_first(
    outside: Run, pytester: pytest.Pytester, suite: str, options: tuple[str, ...]
) -> None:
    tests = pytester.mkdir("tests")
    tests.joinpath("linker.py").touch()
    tests.joinpath("test_it.py").write_text(suite, encoding="utf-8")
    result = outside(*options)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        [
            f"*two modules are called 'linker': {tests / 'linker.py'}, and the package *linker; *",
            "*hint: rename the first, *--import-mode=importlib",
        ]
    )
    outside(*options, "--import-mode=importlib", "--collect-only").assert_outcomes()


def test_a_namesake_of_the_linker_on_the_path_ends_the_run_before_collection(
    outside: Run, pytester: pytest.Pytester
) -> None:
    package = pytester.mkdir("src").joinpath("linker")
    package.mkdir()
    package.joinpath("__init__.py").touch()
    pytester.makepyfile(USES)
    pytester.makeini("[pytest]\npythonpath = src\n")
    result = outside(*DIRECTORIES)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0].startswith(
        f"ERROR: two modules are called 'linker': {package / '__init__.py'}, and "
    )


# Skips


@pytest.mark.usefixtures("no_tools")
def test_what_can_be_done_without_is_skipped_with_every_reason(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(linkmode_fs): ...")
    result = inside("--linkmode-fs=btrfs?", "--linkmode-namespace=host", "-rs")
    result.assert_outcomes(skipped=1)
    (line,) = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert "btrfs cannot be had here | checked: " in line
    assert "mkfs.btrfs" in line
    assert "to fix this: " in line
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["--linkmode-fs=btrfs[?]: no test ran *(1 skipped)"])


@pytest.mark.usefixtures("no_tools")
def test_under_auto_each_missing_filesystem_is_one_skipped_parameter(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(linkmode_layout): ...")
    result = inside("--collect-only", "-q")
    ids = [line.partition("[")[2].rstrip("]") for line in result.outlines if "[" in line]
    assert [name for name in ids if name.startswith("btrfs")] == ["btrfs"]
    assert [name for name in ids if name.startswith("xfs")] == ["xfs", "xfs-noreflink"]
    assert {"disk", "tmpfs", "tmpfs:disk", "disk:tmpfs"} <= set(ids)


# Fixtures


@pytest.mark.faked("symlinks")
def test_fixtures_give_what_the_documentation_says(inside: Run, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pathlib
        from linker import LinkMode, link_tree
        from pytest_linkmode import assert_linked

        seen = set()

        def test_layout(linkmode_layout, link_mode, linkmode_tree):
            for path in (linkmode_layout.source, linkmode_layout.target):
                assert isinstance(path, pathlib.Path)
                assert path.is_dir() and not list(path.iterdir())
                assert path not in seen
                seen.add(path)
            linkmode_tree(linkmode_layout.source)
            link_tree(linkmode_layout.source, linkmode_layout.target, mode=link_mode)
            expected = linkmode_layout.expect(link_mode)
            assert_linked(linkmode_layout.source, linkmode_layout.target, expected)
            assert ("cross-device" in linkmode_layout.can) == (":" in linkmode_layout.name)

        def test_fs(linkmode_fs):
            assert isinstance(linkmode_fs.path, pathlib.Path)
            assert not list(linkmode_fs.path.iterdir())
            assert linkmode_fs.path not in seen
            seen.add(linkmode_fs.path)
            assert "symlink" in linkmode_fs.can

        def test_linker(linkmode_linker, linkmode_layout, link_mode):
            (linkmode_layout.source / "file").write_bytes(b"x" * 5000)
            linkmode_linker.prepare(linkmode_layout.source)
            linkmode_linker.link(linkmode_layout.source, linkmode_layout.target, link_mode)
            assert (linkmode_layout.target / "file").read_bytes() == b"x" * 5000
        """
    )
    inside(*DIRECTORIES).assert_outcomes(passed=2 * 4 + 2 + 2 * 4)


def test_the_linker_of_the_run_is_the_one_that_was_named(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        mine="import shutil\ndef link(source, target, mode): shutil.copytree(source, target,"
        " dirs_exist_ok=True)\n",
        test_it="""
        def test_it(linkmode_linker, linkmode_layout):
            assert linkmode_linker.name == "mine:link"
        """,
    )
    pytester.syspathinsert()
    inside(*DIRECTORIES, "--linkmode-linker=mine:link").assert_outcomes(passed=2)


def test_session_factories_give_directories_beside_those_of_tests(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest

        @pytest.fixture(scope="session")
        def warm(linkmode_fs_factory):
            cache = linkmode_fs_factory("disk").path
            (cache / "wheel").write_text("warm")
            return cache

        def test_cache(warm, linkmode_fs):
            assert warm != linkmode_fs.path
            if linkmode_fs.name == "disk":
                os.link(warm / "wheel", linkmode_fs.path / "wheel")

        def test_layout(linkmode_layout_factory):
            first, second = (linkmode_layout_factory("disk:shm") for _ in range(2))
            assert first.source != second.source
            assert "cross-device" in first.can

        def test_wrong(linkmode_fs_factory):
            linkmode_fs_factory("dsik")
        """.replace("disk:shm", ACROSS)
    )
    result = inside(*DIRECTORIES, "--linkmode-require=cross-device")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*no filesystem is called 'dsik'*", f"{ACROSS} *1*"])
    result.stdout.no_fnmatch_line("--linkmode-require*")


def test_a_factory_that_a_test_asks_for_while_it_runs_counts(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        def test_layout(request):
            assert request.getfixturevalue("linkmode_layout_factory")("disk").source.is_dir()

        def test_filesystem(request):
            assert request.getfixturevalue("linkmode_fs_factory")("disk").path.is_dir()
        """
    )
    result = inside(*DIRECTORIES)
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["disk *2"])


def test_the_directory_of_a_test_goes_with_it_and_that_of_a_session_stays(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(scope="session")
        def seen(linkmode_fs_factory):
            cache = linkmode_fs_factory("disk").path
            (cache / "wheel").write_text("warm")
            return [cache]

        @pytest.mark.parametrize("number", range(3))
        def test_it(seen, linkmode_fs, number):
            shut = linkmode_fs.path / "shut"
            shut.mkdir()
            (shut / "file").write_text("")
            shut.chmod(0o500)
            seen.append(linkmode_fs.path)
            cache, *before, here = seen
            assert (cache / "wheel").read_text() == "warm"
            assert here.is_dir()
            assert not any(path.exists() for path in before)
        """
    )
    inside("--linkmode-layout=disk", "--linkmode-namespace=host").assert_outcomes(passed=3)


@pytest.mark.faked("symlinks")
def test_a_test_that_pretends_another_system_is_run_on_this_one(
    outside: Run, pytester: pytest.Pytester
) -> None:
    """Whatever is loaded, made or looked at only while it pretends."""
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.fixture(autouse=True, params=["darwin", "linux", "win32"])
        def pretended(request, monkeypatch):
            monkeypatch.setattr(sys, "platform", request.param)

        @pytest.mark.linkmode(modes=["hardlink", "copy"])
        def test_it(linkmode_layout, link_mode, linkmode_linker):
            from pytest_linkmode import assert_linked

            layout = linkmode_layout
            (layout.source / "file").write_bytes(b"x" * 5000)
            linkmode_linker.link(layout.source, layout.target, link_mode)
            assert_linked(layout.source, layout.target, layout.expect(link_mode))
        """
    )
    outside(*DIRECTORIES).assert_outcomes(passed=2 * 2 * 3)


def test_a_fixture_that_is_asked_for_too_late_says_so(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile("def test_it(request): request.getfixturevalue('linkmode_layout')")
    result = inside(*DIRECTORIES)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*make it an argument of the test*"])


def test_tests_that_pytest_cannot_vary_are_told_what_works_there(
    inside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        test_classes="""
        import unittest
        import pytest

        class TestOfALayout(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def lay(self, linkmode_layout): ...

            def test_it(self): ...

        @pytest.mark.usefixtures("linkmode_fs")
        class TestOfAFilesystem(unittest.TestCase):
            def test_it(self): ...

        @pytest.mark.usefixtures("link_mode")
        class TestOfAMode(unittest.TestCase):
            def test_it(self): ...

        class TestOfAFactory(unittest.TestCase):
            @pytest.fixture(autouse=True)
            def lay(self, linkmode_layout_factory):
                self.layout = linkmode_layout_factory("disk")

            def test_it(self):
                assert self.layout.name == "disk"
        """
    )
    told = pytester.mkpydir("told")
    told.joinpath("one.py").write_text("'>>> 1 + 1 # 2'", encoding="utf-8")
    told.joinpath("conftest.py").write_text(
        "import pytest\n@pytest.fixture(autouse=True)\ndef lay(linkmode_layout): ...\n",
        encoding="utf-8",
    )
    result = inside(*DIRECTORIES, "--doctest-modules")
    result.assert_outcomes(passed=1, errors=4)
    cannot = "*is varied over what was selected: pytest cannot vary unittest.TestCase or doctests: "
    for mend, times in (
        ("use linkmode_layout_factory there, *", 2),
        ("use linkmode_fs_factory there, *", 1),
        ("go through linker.LinkMode there", 1),
    ):
        result.stdout.fnmatch_lines([f"{cannot}{mend}"] * times)


# Namespaces


@pytest.mark.usefixtures("mounting")
def test_filesystems_are_made_in_a_private_namespace(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makeconftest(
        f"""
        import os

        # Conftests already see what their tests will see.
        assert os.readlink("/proc/self/ns/mnt") != {os.readlink("/proc/self/ns/mnt")!r}
        """
    )
    pytester.makepyfile(
        """
        def test_it(linkmode_fs, link_mode):
            lines = [line for line in open("/proc/self/mounts") if f" {linkmode_fs.path}"]
            assert lines
        """
    )
    result = outside("--linkmode-fs=tmpfs", "-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(["linkmode: --linkmode-fs=tmpfs (private namespace, *)"])
    assert own_tmp not in _mounts()
    assert os.listdir(os.path.join(own_tmp, os.listdir(own_tmp)[0])) == []


@pytest.mark.usefixtures("mounting")
def test_under_bare_auto_the_first_fixture_enters_and_threads_are_told_of(
    outside: Run, pytester: pytest.Pytester
) -> None:
    before = os.readlink("/proc/self/ns/mnt")
    pytester.makeconftest(
        """
        import threading

        threading.Thread(target=threading.Event().wait, daemon=True).start()
        """
    )
    pytester.makepyfile(
        f"""
        import os
        import pytest

        def test_before():
            assert os.readlink("/proc/self/ns/mnt") == {before!r}

        @pytest.mark.linkmode(fs=["tmpfs"])
        def test_it(linkmode_fs):
            assert os.readlink("/proc/self/ns/mnt") != {before!r}
        """
    )
    result = outside()
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["*1 thread that ran before stay* outside of it*"])


@pytest.mark.usefixtures("mounting")
def test_a_run_inside_a_run_does_not_enter_again(outside: Run, pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['pytester']")
    pytester.makepyfile(
        """
        import os

        def test_outer(linkmode_fs, pytester):
            namespace = os.readlink("/proc/self/ns/mnt")
            pytester.makepyfile("def test_inner(linkmode_fs): (linkmode_fs.path / 'x').touch()")
            for flags in (["--linkmode-fs=tmpfs"], []):
                result = pytester.runpytest_inprocess(*flags, "-k", "tmpfs")
                result.assert_outcomes(passed=1)
            assert os.readlink("/proc/self/ns/mnt") == namespace
            (linkmode_fs.path / "still there").touch()
        """
    )
    outside("--linkmode-fs=tmpfs", "-p", "no:xdist").assert_outcomes(passed=1)


@pytest.mark.usefixtures("mounting")
def test_fresh_filesystems_are_used_by_one_test_only(
    outside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import os
        import pytest

        root = set()

        @pytest.mark.linkmode(fresh=True)
        @pytest.mark.parametrize("number", range(3))
        def test_it(linkmode_fs, number):
            assert os.listdir(linkmode_fs.path.parent) == [linkmode_fs.path.name]
            assert os.path.ismount(linkmode_fs.path.parent)
            root.add(linkmode_fs.path.parent)

        def test_shared(linkmode_fs):
            assert len(root) == 3
            assert not any(path.exists() for path in root)
        """
    )
    outside("--linkmode-layout=tmpfs").assert_outcomes(passed=4)


def test_a_private_namespace_that_is_asked_for_and_refused_is_a_usage_error(
    inside: Run, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = namespaces.Refusal("unshare the mount namespace", "EPERM", privileged=False)
    monkeypatch.setattr(namespaces, "_places", {})
    monkeypatch.delenv(namespaces.VARIABLE, raising=False)
    monkeypatch.setattr(namespaces, "try_private", lambda: refusal)
    pytester.makepyfile("raise SystemExit('collected')")
    result = inside("--linkmode-namespace=private")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*unshare the mount namespace: EPERM", "*--linkmode-namespace=host"]
    )


def test_what_is_kept_says_where_it_is_and_how_to_remove_it(
    outside: Run, pytester: pytest.Pytester, own_tmp: str
) -> None:
    pytester.makepyfile("def test_it(linkmode_fs): (linkmode_fs.path / 'work').touch()")
    flags = ("-q", "--linkmode-layout=disk", "--linkmode-namespace=host", "--linkmode-keep")
    result = outside("--basetemp=base", *flags, f"--linkmode-dir=disk={pytester.mkdir('there')}")
    result.assert_outcomes(passed=1)
    (line,) = [line for line in result.outlines if line.startswith("kept: disk at ")]
    path, _, hint = line.removeprefix("kept: disk at ").partition(" (")
    assert hint == "to remove it: linkmode clean)"
    assert glob.glob(os.path.join(path, "*", "work"))
    clean = "from pytest_linkmode.filesystems import registry; registry.clean()"
    assert pytester.run(sys.executable, "-c", clean).ret == 0
    assert not os.path.exists(path)
    assert os.listdir(pytester.path / "there") == []


# The package


def test_public_names_are_loaded_when_they_are_used() -> None:
    from pytest_linkmode import assert_linked, evidence

    assert callable(assert_linked)
    assert callable(evidence)
    assert set(pytest_linkmode.__all__) <= set(dir(pytest_linkmode))
    with pytest.raises(AttributeError, match="nothing"):
        getattr(pytest_linkmode, "nothing")  # noqa: B009


def test_evidence_is_the_function_whichever_is_imported_first(pytester: pytest.Pytester) -> None:
    for first in ("import pytest_linkmode.evidence", "from pytest_linkmode import evidence"):
        script = pytester.makepyfile(
            f"{first}\nimport pytest_linkmode.evidence\nimport pytest_linkmode\n"
            "from pytest_linkmode import evidence\n"
            "from pytest_linkmode.evidence import Evidence\n"
            "assert evidence is pytest_linkmode.evidence and evidence.__name__ == 'evidence'\n"
        )
        assert pytester.runpython(script).ret == 0


def _mounts() -> str:
    with open("/proc/self/mounts", encoding="utf-8") as lines:
        return lines.read()


def test_a_project_may_run_ours_again_and_again_in_one_process(
    outside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        pytest_plugins = "pytester"

        SUITE = '''
        from pytest_linkmode import assert_linked

        def test_a_layout(linkmode_layout, link_mode, linkmode_tree, linkmode_linker):
            layout = linkmode_layout
            linkmode_tree(layout.source)
            linkmode_linker.link(layout.source, layout.target, link_mode)
            assert_linked(layout.source, layout.target, layout.expect(link_mode))

        def test_a_filesystem(linkmode_fs, linkmode_fs_factory, linkmode_layout_factory):
            assert linkmode_fs.path != linkmode_fs_factory("disk").path
            assert linkmode_layout_factory("disk").name == "disk"
        '''

        def test_ours(pytester):
            pytester.makepyfile(SUITE)
            for _ in range(2):  # each with modules of its own
                result = pytester.runpytest_inprocess("--linkmode-layout=disk")
                assert result.ret == 0
                assert result.parseoutcomes()["passed"] > 1
        """
    )
    outside().assert_outcomes(passed=1)


def test_the_linker_finds_what_it_fell_back_from_in_each_of_several_runs(
    outside: Run, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        f"""
        pytest_plugins = "pytester"

        SUITE = '''
        from linker import link_tree

        def test_a_fallback(linkmode_layout):
            (linkmode_layout.source / "file").write_text("bytes")
            report = link_tree(linkmode_layout.source, linkmode_layout.target, mode="hardlink")
            assert len(report.transitions) == 1
        '''

        def test_ours(pytester, linkmode_layout):
            pytester.makepyfile(SUITE)
            for _ in range(2):  # each with modules of its own
                result = pytester.runpytest_inprocess(
                    "--linkmode-layout={ACROSS}", "--linkmode-namespace=host"
                )
                result.assert_outcomes(passed=1)
        """
    )
    outside("--linkmode-layout=disk", "--linkmode-namespace=host").assert_outcomes(passed=1)
