"""The macOS primitives, over the model of its calls: numbers, attributes, what is staged how."""

from __future__ import annotations

import os

import pytest

from linker import LinkMode, link_tree
from linker.conditions import TABLES, Condition, Primitive, condition_of
from linker.platforms.base import ClonesDirectories, Failed
from linker.platforms.macos import CALLS, ERRORS, NUMBERS, MacPlatform
from pytest_linkmode.models import clonefile
from tests.linker.scenes import EXISTING, Scene
from tests.linker.seams import REFLINKING
from tests.linker.verdicts import Ended, wrong

pytestmark = pytest.mark.usefixtures("counted")

EVERY_WAY = {"atomic": True, "item-by-item": False}


@pytest.mark.parametrize(
    ("name", "number"),
    [
        *[("EDEADLK", 11), ("EAGAIN", 35), ("ENOTSUP", 45), ("ELOOP", 62), ("ENAMETOOLONG", 63)],
        *[("ENOTEMPTY", 66), ("EDQUOT", 69), ("ENOSYS", 78), ("ENOATTR", 93)],
        *[("EOPNOTSUPP", 102), ("EQFULL", 106)],
    ],
)
def test_darwins_numbers_are_its_own(name: str, number: int) -> None:
    assert NUMBERS[name] == number
    assert ERRORS[number] == name
    assert MacPlatform().error_name(OSError(number, "")) == name


def test_the_tables_speak_of_errors_that_darwin_has() -> None:
    _, special = TABLES["macos"]
    assert {name for names in special.values() for name in names} - set(NUMBERS) == {"KEPT"}


def test_two_numbers_for_what_is_not_supported_mean_the_same() -> None:
    for name in ("ENOTSUP", "EOPNOTSUPP"):
        assert condition_of("macos", Primitive.CLONE_FILE, name) is Condition.UNSUPPORTED


def test_a_system_without_these_calls_says_so(ground: str) -> None:
    directory = os.open(ground, os.O_RDONLY)
    try:
        with pytest.raises(Failed) as caught:
            MacPlatform(CALLS).clone_directory(directory, directory, "b")
    finally:
        os.close(directory)
    assert MacPlatform().error_name(caught.value.error) == "ENOSYS"


def test_only_macos_clones_directories() -> None:
    from linker.platforms.linux import LinuxPlatform

    offered = [name for name in vars(ClonesDirectories) if not name.startswith("_")]
    assert offered
    for name in offered:
        assert hasattr(MacPlatform(), name)
        assert not hasattr(LinuxPlatform(), name)


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("existing", [None, EXISTING], ids=["fresh-target", "existing-target"])
@pytest.mark.parametrize("mode", LinkMode)
def test_a_tree_is_linked_by_the_rules(
    scene: str, user: str, mode: LinkMode, existing: object, way: str
) -> None:
    stage = Scene(scene, existing=EXISTING if existing else None)
    platform = clonefile.platform(scene, atomic=EVERY_WAY[way], host=REFLINKING)
    report = link_tree(stage.source, stage.target, mode=mode, platform=platform)
    assert not report.transitions
    assert wrong(stage, mode, Ended(report, None)) == []
