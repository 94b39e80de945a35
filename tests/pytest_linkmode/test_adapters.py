"""Adapters: any linker behind one seam, and clear words where there is none."""

from __future__ import annotations

import importlib
import os
import pathlib
import sys
from collections.abc import Callable

import pytest

from linker import LinkMode, policies
from pytest_linkmode import adapters
from pytest_linkmode.adapters import (
    AdapterError,
    CallableAdapter,
    CommandAdapter,
    ReferenceAdapter,
    adapter_from,
)
from pytest_linkmode.assertions import assert_linked
from pytest_linkmode.errors import UsageError
from pytest_linkmode.processes import CommandFailed
from pytest_linkmode.samples import sample_tree

MODULE = """
import shutil
from linker import link_tree

def good(source, target, mode):
    return link_tree(source, target, mode=mode)

def says(source, target, mode):
    (target / "said").write_text(f"{type(source).__name__} {type(mode).__name__} {mode}")

def only_copies(source, target, mode):
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)

only_copies.modes = ["copy", "reflink"]
only_copies.prepare = lambda source: (source / "prepared").touch()

def fails(source, target, mode):
    raise KeyError("no such thing")

def stops(source, target, mode):
    raise KeyboardInterrupt

def wrong_modes(source, target, mode): ...
wrong_modes.modes = ["teleport"]

def two_arguments(source, target): ...

def defaults(source, target, mode, strict=False, **more): ...

class Linker:
    @staticmethod
    def link(source, target, mode): ...

number = 7
"""


@pytest.fixture
def module(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "linkers_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "linkers_of_a_test", raising=False)
    importlib.invalidate_caches()
    return "linkers_of_a_test"


@pytest.fixture
def source(tmp_path: pathlib.Path) -> pathlib.Path:
    sample_tree(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def target(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target"


# --- which one -------------------------------------------------------------------------------


def test_the_text_says_which_adapter_is_meant(module: str) -> None:
    assert isinstance(adapter_from(None, policies.UV), ReferenceAdapter)
    assert isinstance(adapter_from("", policies.UV), ReferenceAdapter)
    assert isinstance(adapter_from(f"{module}:good"), CallableAdapter)
    assert isinstance(adapter_from("link {mode} {source} {target}"), CommandAdapter)
    assert isinstance(adapter_from("copy=link{source}{target}"), CommandAdapter)


@pytest.mark.parametrize("text", ["nothing", "module:", ":callable", "pip"])
def test_what_is_neither_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match=r"neither module:callable nor a command line") as caught:
        adapter_from(text)
    assert "{mode} {source} {target}" in caught.value.hint


# --- the reference linker --------------------------------------------------------------------


@pytest.mark.parametrize("mode", LinkMode)
def test_the_reference_linker_links(
    source: pathlib.Path, target: pathlib.Path, mode: LinkMode
) -> None:
    done = ReferenceAdapter().link(source, target, mode)
    assert done.report is not None
    assert done.report.requested is mode
    ended = [each for each, count in done.report.counts.items() if count]
    assert_linked(source, target, ended[0])


def test_it_follows_the_policy_that_it_is_given() -> None:
    assert ReferenceAdapter().policy is policies.REFERENCE
    assert ReferenceAdapter().name == "reference linker"
    adapter = adapter_from(None, policies.UV)
    assert isinstance(adapter, ReferenceAdapter)
    assert adapter.policy is policies.UV
    assert adapter.name == "reference linker as uv"


def test_what_it_raises_is_an_adapter_error(source: pathlib.Path, tmp_path: pathlib.Path) -> None:
    with pytest.raises(AdapterError, match="reference linker failed: LinkError") as caught:
        ReferenceAdapter().link(tmp_path / "missing", tmp_path / "target", LinkMode.COPY)
    assert type(caught.value.__cause__).__name__ == "LinkError"


# --- a callable ------------------------------------------------------------------------------


def test_a_callable_gets_two_paths_and_a_mode(
    module: str, source: pathlib.Path, target: pathlib.Path
) -> None:
    done = CallableAdapter(f"{module}:says").link(source, target, LinkMode.HARDLINK)
    assert (target / "said").read_text() == f"{type(source).__name__} LinkMode hardlink"
    assert done.report is None
    assert done.seconds > 0


def test_a_report_of_ours_is_kept(module: str, source: pathlib.Path, target: pathlib.Path) -> None:
    done = CallableAdapter(f"{module}:good").link(source, target, LinkMode.HARDLINK)
    assert done.report is not None
    assert done.report.counts[LinkMode.HARDLINK] > 0


def test_a_callable_says_which_modes_it_has_and_prepares_its_source(
    module: str, source: pathlib.Path
) -> None:
    adapter = CallableAdapter(f"{module}:only_copies")
    assert adapter.modes() == (LinkMode.COPY, LinkMode.CLONE)
    assert CallableAdapter(f"{module}:good").modes() == tuple(LinkMode)
    adapter.prepare(source)
    assert (source / "prepared").exists()


def test_a_callable_may_take_more_and_may_lie_deeper(module: str) -> None:
    assert CallableAdapter(f"{module}:defaults").name == f"{module}:defaults"
    assert CallableAdapter(f"{module}:Linker.link").modes() == tuple(LinkMode)


def test_a_callable_that_does_not_tell_its_arguments_is_taken(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untold(function: object) -> None:
        raise ValueError("no signature found for builtin")

    monkeypatch.setattr("inspect.signature", untold)
    assert CallableAdapter(f"{module}:good").modes() == tuple(LinkMode)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "has no attribute 'missing'"),
        ("number", "it is 7"),
        ("two_arguments", "too many positional arguments"),
        ("wrong_modes", "unknown link mode 'teleport'"),
    ],
)
def test_a_callable_that_cannot_be_a_linker_is_refused(module: str, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CallableAdapter(f"{module}:{name}")


def test_a_module_that_cannot_be_imported_is_refused() -> None:
    with pytest.raises(UsageError, match="No module named 'no_such_module'") as caught:
        CallableAdapter("no_such_module:link")
    assert "PYTHONPATH" in caught.value.hint


def test_whatever_it_raises_is_an_adapter_error(
    module: str, source: pathlib.Path, target: pathlib.Path
) -> None:
    with pytest.raises(AdapterError, match="fails failed: KeyError: 'no such thing'") as caught:
        CallableAdapter(f"{module}:fails").link(source, target, LinkMode.COPY)
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_interrupt_is_none(module: str, source: pathlib.Path, target: pathlib.Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        CallableAdapter(f"{module}:stops").link(source, target, LinkMode.COPY)


# --- a command line --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "windows", "first"),
    [
        (r"C:\tools\link.exe {mode}", True, r"C:\tools\link.exe"),
        (r"'C:\my tools\link.exe' {mode}", True, r"C:\my tools\link.exe"),
        (r"my\ tools/link {mode}", False, "my tools/link"),
        ("'my tools/link' {mode} # {source}", False, "my tools/link"),
    ],
)
def test_a_line_is_taken_apart_as_the_system_writes_paths(
    line: str, first: str, *, windows: bool
) -> None:
    words = adapters._words(line, windows=windows)
    assert words[:2] == (first, "{mode}")
    assert words[2:] == (("#", "{source}") if "#" in line else ())


def test_a_command_gets_its_arguments_one_by_one(tmp_path: pathlib.Path) -> None:
    odd = tmp_path / "two words; $HOME {mode} 'quoted'"
    adapter = CommandAdapter("link --to={target} 'a b' {mode} --from {source}")
    assert adapter.command(odd, pathlib.Path("/t"), LinkMode.CLONE) == (
        "link",
        "--to=/t",
        "a b",
        "clone",
        "--from",
        str(odd),
    )


@pytest.mark.parametrize(
    ("text", "modes"),
    [
        ("l {mode} {source} {target}", "clone hardlink symlink copy"),
        ("clone,copy=l {mode} {source} {target}", "clone copy"),
        ("reflink=l {source} {target}", "clone"),
        ("copy=l {source} {target}\nhardlink=l -l {source} {target}", "hardlink copy"),
    ],
)
def test_a_command_has_the_modes_that_stand_before_it(text: str, modes: str) -> None:
    assert [mode.value for mode in CommandAdapter(text).modes()] == modes.split()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cp -a {source}", r"lacks \{mode\} and \{target\}"),
        ("cp -a {source} {target}", r"(?s)lacks \{mode\}.*copy=cp"),
        ("link {mode} here there", r"lacks \{source\} and \{target\}"),
        ("clone,copy=cp {source} {target}", r"lacks \{mode\}"),
        ("teleport=cp {source} {target}", "unknown link mode 'teleport'"),
        ("link '{mode} {source} {target}", "No closing quotation"),
    ],
)
def test_a_command_line_that_cannot_work_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        adapter_from(text)


def test_a_mode_without_a_command_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="cp has no command for clone") as caught:
        CommandAdapter("copy=cp {source} {target}").link(tmp_path, tmp_path, LinkMode.CLONE)
    assert caught.value.hint == "it has copy"


@pytest.mark.parametrize(
    ("mode", "option"), [(LinkMode.COPY, "--reflink=never"), (LinkMode.HARDLINK, "-l")]
)
def test_cp_is_a_linker(
    source: pathlib.Path, target: pathlib.Path, mode: LinkMode, option: str
) -> None:
    adapter = adapter_from(f"{mode}=cp -a {option} {{source}}/. {{target}}")
    assert adapter.name == "cp"
    adapter.prepare(source)
    adapter.link(source, target, mode)
    assert_linked(source, target, mode)


def test_a_command_is_never_given_to_a_shell(tmp_path: pathlib.Path) -> None:
    source, target = tmp_path / "$(touch broken)", tmp_path / "target"
    source.mkdir()
    adapter = CommandAdapter("copy=cp -a {source}/. {target} ")
    adapter.link(source, target, LinkMode.COPY)
    assert os.listdir(target) == []
    assert sorted(os.listdir(tmp_path)) == ["$(touch broken)", "target"]


def test_what_a_command_printed_is_kept(tmp_path: pathlib.Path) -> None:
    adapter = CommandAdapter("copy=echo {source} {target}")
    done = adapter.link(pathlib.Path("/s"), pathlib.Path("/t"), LinkMode.COPY)
    assert done.output == "/s /t"


def watched(text: str) -> CommandAdapter:
    """Under supervision, where the system allows that."""
    return CommandAdapter(text, policy=policies.REFERENCE)


@pytest.mark.parametrize("make", [CommandAdapter, watched])
def test_a_command_has_the_environment_of_the_user(
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[str], CommandAdapter],
) -> None:
    adapter = make("copy=sh -c 'echo $LC_ALL' {source} {target}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert adapter.link(tmp_path, tmp_path, LinkMode.COPY).output == "C.UTF-8"
    monkeypatch.delenv("LC_ALL")
    assert adapter.link(tmp_path, tmp_path, LinkMode.COPY).output == ""


@pytest.mark.parametrize("make", [CommandAdapter, watched])
def test_a_script_without_its_interpreter_is_told_from_one_that_is_missing(
    tmp_path: pathlib.Path, make: Callable[[str], CommandAdapter]
) -> None:
    script = tmp_path / "script"
    adapter = make(f"copy={script} {{source}} {{target}}")
    with pytest.raises(AdapterError, match=r"could not be started: No such file or directory$"):
        adapter.link(tmp_path, tmp_path, LinkMode.COPY)
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    with pytest.raises(AdapterError, match="the file is there: its interpreter is not"):
        adapter.link(tmp_path, tmp_path, LinkMode.COPY)


def slow(text: str) -> CommandAdapter:
    return CommandAdapter(text, timeout=0.2)


@pytest.mark.parametrize(
    ("text", "make", "said"),
    [
        ("copy=ls /no/such/place {source}{target}", CommandAdapter, "No such file or directory"),
        ("copy=no-such-program {source} {target}", CommandAdapter, "could not be started"),
        ("copy=tail -f /dev/null {source} {target}", slow, r"did not end within 0.2 s"),
    ],
)
def test_a_command_that_fails_is_an_adapter_error_with_what_it_printed(
    tmp_path: pathlib.Path, text: str, make: Callable[[str], CommandAdapter], said: str
) -> None:
    with pytest.raises(AdapterError, match=said) as caught:
        make(text).link(tmp_path, tmp_path, LinkMode.COPY)
    # All is said: pytest shows it once, and no frames of ours.
    assert isinstance(caught.value.__context__, CommandFailed)
    assert caught.value.__cause__ is None
