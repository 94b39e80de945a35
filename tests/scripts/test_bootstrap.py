"""Preparing a machine: what is missing, what is it called here, and when is a thing made anew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_linkmode import processes
from pytest_linkmode.config import Settings
from pytest_linkmode.filesystems import FILESYSTEMS, provider_of
from pytest_linkmode.filesystems.base import SYSTEMS
from pytest_linkmode.guests import xstate
from scripts import bootstrap, calling
from scripts.bootstrap import BootstrapError
from tests.patience import SECONDS

Find = Callable[[str], str | None]


def only(*programs: str) -> Find:
    """Return a machine that has these programs and no others."""
    return lambda name: f"/usr/bin/{name}" if name in programs else None


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        ("apt", {"btrfs-progs", "xfsprogs", "e2fsprogs", "mount"}),
        ("dnf", {"btrfs-progs", "xfsprogs", "e2fsprogs", "util-linux-core"}),
        ("pacman", {"btrfs-progs", "xfsprogs", "e2fsprogs", "util-linux"}),
        ("apk", {"btrfs-progs", "xfsprogs", "e2fsprogs", "mount"}),
    ],
)
def test_a_bare_machine_gets_the_packages_of_its_distribution(
    manager: str, expected: set[str]
) -> None:
    bare = only(manager)
    assert bootstrap.find_manager(bare) == manager
    missing = bootstrap.missing_tools(bare)
    assert {"mkfs.btrfs", "mkfs.xfs", "mkfs.ext4", "mount"} <= set(missing)
    assert expected <= set(bootstrap.packages_of(missing, manager))


@pytest.mark.parametrize("manager", bootstrap.MANAGERS)
def test_every_tool_but_one_has_a_package_in_every_distribution(manager: str) -> None:
    missing = bootstrap.missing_tools(only(manager))
    assert all(bootstrap.packages_of([tool], manager) for tool in missing)
    lacking = set(bootstrap.needed_tools()) - set(missing)
    assert lacking == (set() if manager == "apt" else {"mount.exfat-fuse"})


def test_a_bare_machine_gets_every_program_that_any_provider_looks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_for: set[str] = set()
    monkeypatch.setattr(processes, "which", looked_for.add)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for kind in FILESYSTEMS.values():
        for word in kind.providers:
            provider = provider_of(word)
            if SYSTEMS.get(provider.name, "linux") == "linux":
                provider.missing(kind, Settings())
    looked_for -= bootstrap.MANAGERS.keys()
    assert {"mkfs.btrfs", "bindfs", "mount.exfat-fuse", "lowntfs-3g", "linux.uml"} <= looked_for
    bare = only("apt")
    installed = {*bootstrap.missing_tools(bare), *bootstrap.missing_rungs("apt", bare)}
    assert looked_for <= installed


def test_only_what_is_missing_is_installed() -> None:
    here = only(*(tool for tool in bootstrap.needed_tools() if tool != "mkfs.xfs"))
    missing = bootstrap.missing_tools(here)
    assert missing == ("mkfs.xfs",)
    assert bootstrap.packages_of(missing, "apt") == ("xfsprogs",)


def test_a_machine_that_has_everything_needs_nothing() -> None:
    assert bootstrap.missing_tools(lambda name: f"/usr/sbin/{name}") == ()


def test_the_install_command_is_one_to_type() -> None:
    command = " ".join(bootstrap.install_command("apt", ("xfsprogs",)))
    assert command == "apt-get install --yes --no-install-recommends xfsprogs"


def test_root_needs_nothing_before_a_command() -> None:
    assert bootstrap.elevation(0, only()) == ()


def test_without_sudo_an_ordinary_user_stays_one() -> None:
    assert bootstrap.elevation(1000, only()) is None


def test_a_compiler_is_for_guests_and_comes_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xstate, "is_large", lambda: True)
    assert bootstrap.missing_rungs("apt", only("sudo")) == ("linux.uml", "cc")
    assert bootstrap.missing_rungs("dnf", only("sudo")) == ()
    assert bootstrap.missing_rungs("dnf", only("sudo", "linux.uml")) == ("cc",)


@pytest.mark.parametrize("status", [0, 1])
def test_sudo_counts_only_if_it_asks_for_no_password(tmp_path: Path, status: int) -> None:
    sudo = tmp_path / "sudo"
    sudo.write_text(f'#!/bin/sh\n[ "$*" = "-n true" ] && exit {status}\nexit 9\n')
    sudo.chmod(0o755)
    expected = None if status else (str(sudo), "-n")
    assert bootstrap.elevation(1000, lambda _: str(sudo)) == expected


def _manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Put a package manager called `pm` first in PATH; it notes what it is asked to do."""
    log = tmp_path / "log"
    program = tmp_path / "bin" / "pm"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(
        bootstrap, "MANAGERS", {"pm": bootstrap.Manager(("pm", "install"), ("pm", "update"))}
    )
    return log


def test_installing_asks_for_no_lists_where_the_first_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _manager(tmp_path, monkeypatch, "exit 0")
    assert bootstrap.install_packages("pm", ("xfsprogs",), ()) is None
    assert log.read_text() == "install xfsprogs\n"


def test_installing_refreshes_the_lists_of_a_fresh_machine_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = f'[ "$1" = update ] && touch {tmp_path}/lists\n[ -e {tmp_path}/lists ]'
    log = _manager(tmp_path, monkeypatch, fresh)
    assert bootstrap.install_packages("pm", ("xfsprogs",), ()) is None
    assert log.read_text() == "install xfsprogs\nupdate\ninstall xfsprogs\n"


def test_what_the_package_manager_says_against_it_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _manager(tmp_path, monkeypatch, "echo no network; exit 1")
    assert bootstrap.install_packages("pm", ("xfsprogs",), ()) == "no network"


def test_a_package_that_is_refused_does_not_cost_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = _manager(tmp_path, monkeypatch, 'case "$*" in *bindfs*) echo no bindfs; exit 1 ;; esac')
    monkeypatch.setattr(
        bootstrap, "PACKAGES", {"bindfs": {"pm": "bindfs"}, "mount": {"pm": "mount"}}
    )
    monkeypatch.setattr(bootstrap, "missing_tools", lambda: ("bindfs", "mount"))
    monkeypatch.setattr(bootstrap, "elevation", lambda: ())
    bootstrap.ensure_tools()
    assert log.read_text().splitlines()[-1] == "install mount"
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("could not install bindfs (no bindfs); going on without. ")
    assert said.endswith("The command was: pm install bindfs mount")


def test_a_package_manager_that_does_not_end_is_ended_and_what_is_equal_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _manager(tmp_path, monkeypatch, "exec sleep 60")
    tools = ("bindfs", "mount")
    monkeypatch.setattr(bootstrap, "PACKAGES", {tool: {"pm": tool} for tool in tools})
    monkeypatch.setattr(bootstrap, "missing_tools", lambda: tools)
    monkeypatch.setattr(bootstrap, "elevation", lambda: ())
    monkeypatch.setattr(calling, "PATIENCE", 0.1)
    bootstrap.ensure_tools()
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("could not install bindfs, mount (it was ended after 0.1 s); going on")


def test_only_the_tests_need_the_programs_of_ordinary_users(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(xstate, "is_large", lambda: False)
    assert bootstrap.missing_rungs("apt", lambda name: None) == ("sudo", "linux.uml")
    assert bootstrap.missing_rungs("dnf", lambda name: None) == ("sudo",)
    assert bootstrap.missing_rungs(None, lambda name: None) == ()
    monkeypatch.setattr(bootstrap, "missing_tools", lambda: ())
    monkeypatch.setattr(bootstrap, "missing_rungs", lambda manager: ("linux.uml",))
    monkeypatch.setattr(bootstrap, "missing_browsers", lambda: ("chromedriver",))
    monkeypatch.setattr(bootstrap, "find_manager", lambda: "apt")
    monkeypatch.setattr(bootstrap, "elevation", lambda: None)
    bootstrap.ensure_tools(["matrix"])
    assert capsys.readouterr().err == ""
    bootstrap.ensure_tools(["tests"])
    said = capsys.readouterr().err
    assert "user-mode-linux" in said
    assert "chromium-driver" in said


def test_any_browser_of_the_family_will_do() -> None:
    assert bootstrap.missing_browsers(lambda name: None) == ("chromium", "chromedriver")
    assert bootstrap.missing_browsers(lambda name: name) == ()
    chrome = {"google-chrome": "/opt/chrome", "chromedriver": "/opt/driver"}
    assert bootstrap.missing_browsers(chrome.get) == ()


def test_only_the_matrix_of_installers_needs_what_gets_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "missing_tools", lambda: ())
    monkeypatch.setattr(bootstrap, "which", lambda name: None)
    monkeypatch.setattr(bootstrap, "find_manager", lambda: "apt")
    monkeypatch.setattr(bootstrap, "elevation", lambda: None)
    bootstrap.ensure_tools(["matrix"])
    assert capsys.readouterr().err == ""
    bootstrap.ensure_tools(["installers"])
    assert "npm (for the installers of npm's index)" in capsys.readouterr().err


def test_missing_tools_without_privileges_are_said_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "missing_tools", lambda: ("mkfs.btrfs",))
    monkeypatch.setattr(bootstrap, "find_manager", lambda: "dnf")
    monkeypatch.setattr(bootstrap, "elevation", lambda: None)
    bootstrap.ensure_tools()
    said = capsys.readouterr().err
    assert "mkfs.btrfs (for btrfs" in said
    assert "as root: dnf install --assumeyes btrfs-progs" in said


def test_an_unknown_distribution_goes_on_without_the_tools(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "missing_tools", lambda: ("mkfs.btrfs",))
    monkeypatch.setattr(bootstrap, "find_manager", lambda: None)
    bootstrap.ensure_tools()
    assert "apt, dnf, pacman, apk" in capsys.readouterr().err


def test_debian_without_ensurepip_is_told_the_package_of_its_own_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr(bootstrap, "find_manager", lambda: "apt")
    monkeypatch.setattr(bootstrap, "elevation", lambda: None)
    command = f"apt-get install .* python3.{sys.version_info.minor}-venv$"
    with pytest.raises(BootstrapError, match=f"To fix this, as root: {command}"):
        bootstrap.ensure_venv_module()


def test_requirements_come_from_the_dependency_groups_of_the_project() -> None:
    groups = bootstrap.GROUPS["tests"]
    requirements = bootstrap.requirements_of(groups)
    for name in ("pytest-xdist", "hypothesis", "uv==", "ruff==", "import-linter==", "mypy=="):
        assert any(requirement.startswith(name) for requirement in requirements), name


@pytest.mark.parametrize("text", ["", "{", "[]", '{"made of": 1, "purposes": []}'])
def test_a_stamp_that_cannot_be_read_makes_the_environment_anew(tmp_path: Path, text: str) -> None:
    stamp = tmp_path / "stamp.json"
    stamp.write_text(text)
    assert bootstrap.read_stamp(str(stamp)) == ({}, ())
    assert bootstrap.read_stamp(str(tmp_path / "missing")) == ({}, ())


def test_a_moved_or_changed_project_is_another_environment(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "pyproject.toml").write_text("[project]\n")
    shutil.copytree(one, other)
    here = bootstrap.made_of(str(one))
    assert here == bootstrap.made_of(str(one))
    assert here != bootstrap.made_of(str(other))
    (one / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert here != bootstrap.made_of(str(one))


class _Environment:
    """A checkout whose environment is made of files only; notes what pip is asked for."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.made = 0
        self.version = "1"
        (root / "pyproject.toml").write_text(
            "[dependency-groups]\n"
            + "".join(f'{group}=["for-{group}"]\n' for group in bootstrap.GROUPS["tests"])
        )
        state = root / ".linkmode"
        self.python = state / "venv" / "bin" / "python"
        self.stamp = state / "venv" / "linkmode-stamp.json"
        for name, value in {
            "ROOT": str(root),
            "STATE": str(state),
            "ENVIRONMENT": str(state / "venv"),
            "STAMP": str(self.stamp),
            "made_of": lambda: {"project": "this", "version": self.version},
            "read_stamp": lambda: read_stamp(str(self.stamp)),
            "environment_python": lambda: str(self.python),
            "requirements_of": lambda groups: requirements_of(groups, str(root)),
            "ensure_venv_module": lambda: None,
            "ensure_tools": lambda purposes: None,
            "pip": lambda *arguments: self.asked.append(arguments),
        }.items():
            monkeypatch.setattr(bootstrap, name, value)
        monkeypatch.setattr("venv.create", self._create)

    def _create(self, path: str, **_: object) -> None:
        self.made += 1
        self.python.parent.mkdir(parents=True)
        self.python.touch()


read_stamp = bootstrap.read_stamp
requirements_of = bootstrap.requirements_of


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Environment:
    return _Environment(tmp_path, monkeypatch)


def test_an_environment_is_made_once_and_then_left_alone(environment: _Environment) -> None:
    assert bootstrap.main(["matrix"]) == 0
    assert bootstrap.main(["matrix"]) == 0
    assert environment.made == 1
    assert len(environment.asked) == 1
    assert environment.asked[0][:2] == ("install", "--editable")


def test_another_purpose_adds_to_the_environment_that_is_there(environment: _Environment) -> None:
    assert bootstrap.main(["matrix"]) == 0
    assert bootstrap.main(["tests"]) == 0
    assert bootstrap.main(["matrix", "tests"]) == 0
    assert environment.made == 1
    needed = (f"for-{group}" for group in bootstrap.GROUPS["tests"])
    assert environment.asked[1:] == [("install", *needed)]
    assert json.loads(environment.stamp.read_text())["purposes"] == ["matrix", "tests"]


def test_a_change_of_what_it_is_made_of_makes_it_anew(environment: _Environment) -> None:
    assert bootstrap.main(["matrix"]) == 0
    environment.version = "2"
    assert bootstrap.main(["matrix"]) == 0
    assert environment.made == 2


def test_an_installation_that_was_cut_short_is_begun_again(
    environment: _Environment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: str) -> None:
        raise BootstrapError("no index")

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "pip", refuse)
        assert bootstrap.main(["matrix"]) == 1
    assert "error: no index" in capsys.readouterr().err
    assert bootstrap.main(["matrix"]) == 0
    assert environment.made == 2


@pytest.mark.parametrize("arguments", [[], ["benchmarks"]])
def test_an_unknown_purpose_is_a_usage_error(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bootstrap.main(arguments) == 2
    assert "matrix, tests" in capsys.readouterr().err


SCRIPTS = os.path.dirname(os.path.abspath(bootstrap.__file__))
ENTRY_POINTS = [
    *(os.path.join(SCRIPTS, name) for name in ("run-matrix", "run-tests", "bootstrap.sh")),
    os.path.join(SCRIPTS, os.pardir, ".ci", "run"),
]


@pytest.mark.parametrize("path", ENTRY_POINTS, ids=os.path.basename)
def test_the_shell_scripts_are_what_bash_can_read(path: str) -> None:
    assert path.endswith(".sh") or os.access(path, os.X_OK)
    checked = subprocess.run(["bash", "-n", path], capture_output=True, text=True, timeout=SECONDS)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_entry_points_refuse_an_old_python_and_say_what_they_looked_at(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("bash", "dirname", "cat"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    for entry in ("run-matrix", "run-tests"):
        ran = subprocess.run(
            ["bash", os.path.join(SCRIPTS, entry)],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert ran.returncode == 1
        assert "no Python from 3.11 on" in ran.stderr
        assert "LINKMODE_PYTHON" in ran.stderr
