"""The ladder itself: what each rung says of this machine, and what forcing one means."""

from __future__ import annotations

import json

import pytest

from pytest_linkmode import kernel, ladder, namespaces, rungs
from pytest_linkmode.config import Settings
from pytest_linkmode.errors import UsageError
from pytest_linkmode.filesystems import FILESYSTEMS, provider_of
from pytest_linkmode.filesystems import ladder as providers_for
from pytest_linkmode.layouts import missing, parse


def test_every_rung_is_there_or_says_what_was_looked_at_and_what_mends_it() -> None:
    footings = ladder.survey(Settings())
    assert [footing.rung.name for footing in footings] == [
        "root",
        "sudo",
        "directory",
        "machine",
        "user-namespace",
        "uml",
    ]
    for footing in footings:
        assert footing.unavailable is None or footing.unavailable.checked
    plain = json.loads(json.dumps([footing.as_json() for footing in footings]))
    words = ladder.in_words(Settings())
    for row in plain:
        assert f"{row['name']}: {'yes' if row['available'] else 'no'}" in words


def test_every_provider_stands_on_a_rung_and_every_rung_on_providers() -> None:
    for rung in rungs.RUNGS.values():
        assert all(provider_of(name).name == name for name in rung.providers)
    named = {name for kind in FILESYSTEMS.values() for name in kind.providers}
    assert {name for rung in rungs.RUNGS.values() for name in rung.providers} <= named


@pytest.mark.parametrize(
    ("rung", "name", "expected"),
    [
        ("root", "btrfs", ["loop"]),
        ("sudo", "btrfs", ["sudo"]),
        ("sudo", "tmpfs", ["tmpfs"]),
        ("machine", "btrfs", ["machine"]),
        ("user-namespace", "btrfs", []),
        ("user-namespace", "tmpfs", ["tmpfs"]),
        ("user-namespace", "disk", ["machine"]),
        ("uml", "btrfs", ["uml"]),
        ("uml", "tmpfs", ["uml"]),
    ],
)
def test_a_rung_that_is_forced_leaves_its_providers_and_the_places_of_the_machine(
    rung: str, name: str, expected: list[str]
) -> None:
    left = providers_for(FILESYSTEMS[name], Settings(provider=rung))
    assert [provider.name for provider in left] == expected


def test_a_directory_that_was_named_is_used_whatever_the_rung() -> None:
    settings = Settings(provider="user-namespace", dirs={"btrfs": "/mnt"})
    (provider,) = providers_for(FILESYSTEMS["btrfs"], settings)
    assert provider.name == "directory"


def test_a_rung_that_does_not_exist_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="'rooot'") as caught:
        providers_for(FILESYSTEMS["btrfs"], Settings(provider="rooot"))
    assert "did you mean 'root'" in caught.value.hint


@pytest.mark.parametrize("rung", ["directory", "machine"])
def test_where_nothing_is_mounted_there_are_no_bind_mounts(rung: str) -> None:
    refusal = missing(parse("shm+bind"), Settings(provider=rung))
    assert refusal is not None
    assert any("nothing is mounted there" in line for line in refusal.checked)
    assert ladder.find_place(Settings(provider=rung)).kind == namespaces.HOST


@pytest.mark.parametrize("name", ["btrfs+snapshot", "xfs+xfs-project", "tmpfs+overlay-lower"])
def test_what_no_other_user_namespace_grants_is_said_to_be_missing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "may_mount", lambda: False)
    refusal = missing(parse(name), Settings())
    assert refusal is not None
    assert any("in any other the kernel refuses it" in line for line in refusal.checked)
