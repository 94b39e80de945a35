"""Options, ini keys and environment variables end in one frozen value, or in a clear refusal."""

from __future__ import annotations

import fnmatch
import os
import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.config.argparsing import Parser

from pytest_linkmode import config as configuration
from pytest_linkmode.config import Request, Settings
from pytest_linkmode.errors import UsageError
from pytest_linkmode.options import FLAG, LINES, OPTIONS, WORDS, Option, add_options

HERE = pathlib.Path("/invoked/here")
INI = pathlib.Path("/project/pytest.ini")

MOUNTED = os.path.abspath("/mnt/old")
"""A directory as absolute as this system wants it."""


def read(*arguments: str, ini: dict[str, Any] | None = None, **environ: str) -> Settings:
    parser = Parser(_ispytest=True)
    add_options(parser)
    config = SimpleNamespace(
        getini=lambda key: (ini or {}).get(key),
        invocation_params=SimpleNamespace(dir=HERE),
        inipath=INI,
        rootpath=INI.parent,
    )
    options = parser.parse_known_args(list(arguments))
    return configuration.read(config, options, environ)  # type: ignore[arg-type]


def test_nothing_given_is_auto() -> None:
    settings = read()
    assert settings == Settings()
    assert settings.auto
    assert not settings.asks_for_filesystems
    assert settings.typed() == ()


def test_filesystems_are_separated_by_commas_and_added_up() -> None:
    settings = read("--linkmode-fs=btrfs,xfs?", "--linkmode-fs=ext4")
    assert settings.fs == (Request("btrfs"), Request("xfs", optional=True), Request("ext4"))
    assert not settings.auto
    assert settings.asks_for_filesystems
    assert settings.typed() == ("--linkmode-fs=btrfs,xfs?,ext4",)


def test_a_filesystem_named_with_and_without_the_question_mark_must_be_there() -> None:
    assert read("--linkmode-fs=xfs?,xfs").fs == (Request("xfs"),)
    assert read("--linkmode-fs=xfs,xfs?").fs == (Request("xfs"),)


def test_auto_and_all_stand_beside_names() -> None:
    settings = read("--linkmode-fs=auto,xfs")
    assert settings.auto
    assert settings.fs == (Request("xfs"),)
    assert read("--linkmode-fs=all").every
    assert not read("--linkmode-fs=all").auto
    assert read("--linkmode-fs=auto").asks_for_filesystems


def test_an_ini_key_asks_as_an_option_does() -> None:
    settings = read(ini={"linkmode_fs": ["btrfs", "xfs"]})
    assert settings.fs == (Request("btrfs"), Request("xfs"))
    assert settings.asks_for_filesystems
    assert settings.origins == {"fs": "ini file"}


def test_the_command_line_wins_over_the_ini_file() -> None:
    settings = read("--linkmode-fs=ext4", ini={"linkmode_fs": ["btrfs"]})
    assert settings.fs == (Request("ext4"),)
    assert settings.origins == {"fs": "command line"}


def test_filesystems_typed_by_hand_replace_layouts_of_the_ini_file() -> None:
    settings = read("--linkmode-fs=ext4", ini={"linkmode_layout": ["btrfs+bind"]})
    assert settings.layouts is None
    assert settings.typed() == ("--linkmode-fs=ext4",)


def test_pairs_of_the_ini_file_are_pairs_of_what_is_typed() -> None:
    settings = read("--linkmode-fs=ext4,xfs", ini={"linkmode_layout": ["pairs"]})
    assert settings.layouts == ("pairs",)


def test_layouts_alone_are_no_auto() -> None:
    settings = read("--linkmode-layout=btrfs:tmpfs,xfs+bind")
    assert settings.layouts == ("btrfs:tmpfs", "xfs+bind")
    assert not settings.auto


def test_directories_are_joined_from_all_three_places() -> None:
    settings = read(
        "--linkmode-dir=btrfs=b",
        ini={"linkmode_dir": ["xfs=x", "btrfs=elsewhere"]},
        LINKMODE_DIR_XFS_NOREFLINK=MOUNTED,
        LINKMODE_DIR_XFS=f"{MOUNTED}/x",
    )
    assert settings.dirs == {
        "xfs-noreflink": MOUNTED,
        "xfs": os.path.normpath("/project/x"),
        "btrfs": os.path.normpath("/invoked/here/b"),
    }


TAKING_A_VALUE = [option for option in OPTIONS if option.shape is not FLAG]


@pytest.mark.parametrize("option", TAKING_A_VALUE, ids=lambda option: option.name)
def test_a_value_that_is_empty_is_refused_and_not_taken_for_none(option: Option) -> None:
    for value in ("", " ", " , "):
        with pytest.raises(UsageError) as caught:
            read(f"{option.flag}={value}")
        assert str(caught.value).startswith(f"{option.flag}=: it is empty\nhint: ")
    several = option.shape in (WORDS, LINES)
    for given in ("", " ") if not several else ([], [""], ["a=/b", " "]):
        with pytest.raises(UsageError, match=f"^{option.key} in the ini file: it is empty"):
            read(ini={option.key: given})
    if several:
        with pytest.raises(UsageError, match="it is empty"):
            read(f"{option.flag}=copy:EIO", f"{option.flag}=")


def test_a_flag_that_the_ini_file_takes_back_was_not_given() -> None:
    assert read(ini={"linkmode_keep": False}).origins == {}


TWICE: dict[str, dict[str, Any]] = {
    "fs=xfs,btrfs,xfs": {"fs": (Request("xfs"), Request("btrfs"))},
    "layout=xfs,xfs": {"layouts": ("xfs",)},
    "require=reflink,reflink": {"require": ("reflink",)},
    "report=a.json": {"report": (os.path.normpath("/invoked/here/a.json"),)},
    "fault=copy:EIO": {"fault": ("copy:EIO",)},
    "dir=xfs=/x": {"dirs": {"xfs": "/x"}},
    "tmp=xfs": {"tmp": "xfs"},
    "budget=7": {"budget": 7},
}
"""What is given twice -> what comes of it: the same once."""


@pytest.mark.parametrize("word", TWICE)
def test_what_is_said_twice_is_meant_once(word: str) -> None:
    settings = read(f"--linkmode-{word}", f"--linkmode-{word}")
    for name, value in TWICE[word].items():
        assert getattr(settings, name) == value


def test_of_two_values_where_one_is_meant_the_last_wins_as_in_pytest() -> None:
    assert read("--linkmode-policy=uv", "--linkmode-policy=bun").policy == "bun"


def test_two_directories_for_one_filesystem_in_one_place_are_refused() -> None:
    with pytest.raises(UsageError, match="xfs=/b: xfs is /a already"):
        read("--linkmode-dir=xfs=/a", "--linkmode-dir=xfs=/b")
    assert read("--linkmode-dir=xfs=/b", ini={"linkmode_dir": ["xfs=/a"]}).dirs == {"xfs": "/b"}


def test_a_directory_in_the_environment_is_no_request() -> None:
    settings = read(LINKMODE_DIR_BTRFS=MOUNTED)
    assert settings.dirs == {"btrfs": MOUNTED}
    assert not settings.asks_for_filesystems


def test_reports_lie_where_pytest_was_called() -> None:
    there = os.path.normpath("/invoked/here/out/r.json")
    assert read("--linkmode-report=out/r.json").report == (there,)
    there = os.path.normpath("/project/r.json")
    assert read(ini={"linkmode_report": ["r.json"]}).report == (there,)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("4G", 4 << 30), ("1GiB", 1 << 30), ("1048576", 1 << 20)],
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, size: int) -> None:
    assert read(f"--linkmode-image-size={text}").image_size == size


def test_settings_are_typed_as_one_would_type_them() -> None:
    settings = read(
        "--linkmode-fail-under=12.5",
        "--linkmode-keep",
        "--linkmode-namespace=host",
        ini={"linkmode_require": ["reflink", "cross-device"]},
    )
    assert settings.typed() == (
        "--linkmode-namespace=host",
        "--linkmode-require=reflink,cross-device",
        "--linkmode-fail-under=12.5",
        "--linkmode-keep",
    )
    assert settings.typed("require") == ("--linkmode-require=reflink,cross-device",)


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("--linkmode-namespace=prviate", "did you mean 'private'"),
        ("--linkmode-fail-under=many", "percentage"),
        ("--linkmode-fail-under=101", "percentage"),
        ("--linkmode-fail-under=nan", "percentage"),
        ("--linkmode-image-size=0", "512M"),
        ("--linkmode-image-size=5", "at least 1M"),
        ("--linkmode-image-size=1023K", "at least 1M"),
        ("--linkmode-image-size=big", "512M"),
        ("--linkmode-image-size=²G", "512M"),
        ("--linkmode-report=r.pdf", "ends in .html or .json"),
        ("--linkmode-report=r", "no suffix"),
        ("--linkmode-dir=btrfs", "btrfs=/mnt/btrfs"),
        ("--linkmode-dir==/mnt", "btrfs=/mnt/btrfs"),
        ("--linkmode-fs=?", "before the question mark"),
        ("--linkmode-fs=auto?", "optional as it is"),
        ("--linkmode-keep", "--linkmode-namespace=host"),
    ],
)
def test_a_value_that_cannot_be_right_says_so_and_how_to_write_it(
    argument: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(argument)
    assert argument in str(caught.value) or argument.partition("=")[2] in str(caught.value)
    assert words in str(caught.value)


def test_a_relative_directory_in_the_environment_is_refused() -> None:
    with pytest.raises(UsageError, match="must be absolute"):
        read(LINKMODE_DIR_BTRFS="here")


def test_every_option_has_help_and_an_ini_key_of_its_name() -> None:
    for option in OPTIONS:
        assert option.help.endswith(".")
        assert option.key == "linkmode_" + option.flag.removeprefix("--linkmode-").replace("-", "_")


MISTAKES: dict[str, str] = {
    "fs=btrs": "no filesystem is called 'btrs'\nhint: did you mean 'btrfs'",
    "fs=btrfs xfz": "no filesystem is called 'xfz'\nhint: did you mean 'xfs'",
    "layout=disk:tmpf": "'disk:tmpf' is no layout: no filesystem is called 'tmpf'\nhint: did you",
    "layout=disk+bnd": "'disk+bnd' is no layout: no special kind is called 'bnd'\nhint: did you",
    "tmp=dsk": "no filesystem is called 'dsk'\nhint: did you mean 'disk'",
    "tmp=disk,shm": "no filesystem is called 'disk,shm'\nhint: ",
    "dir=btr=/": "no filesystem is called 'btr'\nhint: did you mean 'btrfs'",
    "provider=rot": "no provider is called 'rot'\nhint: did you mean 'root'",
    "linker=cp": "'cp' is no linker: it is neither *\nhint: write it as in: *",
    "linker=nothing_there:link": "cannot import the linker *: No module named*\nhint: ",
    "linker=os:nothing": "there is no linker 'os:nothing': *\nhint: ",
    "linker=os:name": "the linker 'os:name' cannot be called: *\nhint: ",
    "policy=uvv": "no policy is called 'uvv'\nhint: did you mean 'uv'",
    "policy=:X": "no policy is called ':X'\nhint: ",
    "policy=nothing_there:X": "cannot import the policy *: No module named*\nhint: ",
    "policy=os:nothing": "there is no policy 'os:nothing': *\nhint: ",
    "policy=os:path": "'os:path' is no policy: it is a module\nhint: ",
    "require=reflnk": "no capability is called 'reflnk'\nhint: did you mean 'reflink'",
}
"""A value that means nothing -> what is said of it: what, why, and what was perhaps meant."""


@pytest.mark.usefixtures("host_place")
def test_a_word_that_means_nothing_names_its_option_and_what_was_perhaps_meant(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LINKMODE_DIR_DRIVE", raising=False)  # it would be said, too
    for word, said in MISTAKES.items():
        with pytest.raises(pytest.UsageError) as caught:
            pytester.parseconfigure("--linkmode-namespace=host", f"--linkmode-{word}")
        asked = f"--linkmode-{word}".replace(" ", ",").replace("=/", "=*/")  # of a drive
        assert fnmatch.fnmatchcase(str(caught.value), f"{asked}: {said}*"), str(caught.value)


@pytest.mark.usefixtures("host_place")
def test_ini_keys_are_read_by_pytest_as_they_are_written(pytester: pytest.Pytester) -> None:
    pytester.makeini(
        """
        [pytest]
        linkmode_layout = disk, disk:shm
        linkmode_namespace = host
        linkmode_require = cross-device
        linkmode_dir =
            disk=with space
        """
    )
    settings = _parsed(pytester)
    assert settings.layouts == ("disk", "disk:shm")
    assert settings.require == ("cross-device",)
    assert settings.dirs == {"disk": str(pytester.path / "with space")}


@pytest.mark.usefixtures("host_place")
def test_ini_keys_may_be_lists_in_pyproject(pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml(
        """
        [tool.pytest.ini_options]
        linkmode_require = ["reflink", "hardlink"]
        linkmode_fail_under = "5"
        linkmode_policy = "uv"
        """
    )
    settings = _parsed(pytester)
    assert settings.require == ("reflink", "hardlink")
    assert settings.fail_under == 5
    assert settings.policy == "uv"


def _parsed(pytester: pytest.Pytester) -> Settings:
    config = pytester.parseconfig("-p", "no:cacheprovider")
    return configuration.read(config, config.option, {})


def test_faults_and_a_budget_are_kept_as_typed() -> None:
    lines = ("clone:EIO:nth=3", "rename:kill-after:path=*/RECORD")
    settings = read(*(f"--linkmode-fault={line}" for line in lines), "--linkmode-budget=50")
    assert settings.fault == lines
    assert settings.budget == 50
    assert settings.typed() == (
        *(f"--linkmode-fault={line}" for line in lines),
        "--linkmode-budget=50",
    )
    assert not settings.asks_for_filesystems
    assert read(ini={"linkmode_budget": "7"}).budget == 7


@pytest.mark.parametrize("word", ["fault=clone", "fault=clone:EWHAT", "budget=0", "budget=many"])
def test_what_is_no_fault_or_no_budget_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        read(f"--linkmode-{word}")
