"""Light records and tuples behave as the real ones, and a link goes without what makes those."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from linker.light import NamedTuple, Protocol, cast, record

_NOTHING: Mapping[str, int] = {}


@record(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2

    @property
    def sum(self) -> int:
        return self.x + self.y


@record(frozen=True, slots=True)
class Place(Point):
    y: int = 3
    name: str = "here"


@record(frozen=True)
class Odd:
    number: int
    more: Mapping[str, int] = _NOTHING

    def __post_init__(self) -> None:
        if self.number % 2 == 0:
            raise ValueError(f"{self.number} is even")


@dataclasses.dataclass(frozen=True, slots=True)
class _Point:
    x: int
    y: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class _Place(_Point):
    y: int = 3
    name: str = "here"


@dataclasses.dataclass(frozen=True)
class _Odd:
    number: int
    more: Mapping[str, int] = dataclasses.field(default_factory=dict)


PAIRS: list[tuple[Any, Any]] = [(Point, _Point), (Place, _Place), (Odd, _Odd)]


def test_values_are_given_by_place_or_by_name_or_not_at_all() -> None:
    assert (Point(1).x, Point(1).y) == (1, 2)
    assert (Point(1, 5).x, Point(1, 5).y) == (1, 5)
    assert (Point(y=5, x=1).x, Point(y=5, x=1).y) == (1, 5)
    assert (Place(1).y, Place(1).name, Place(1, name="there").name) == (3, "here", "there")
    assert Point(1, 5).sum == 6


@pytest.mark.parametrize(
    ("given", "named"),
    [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1}), ((), {"y": 1})],
)
def test_what_a_dataclass_would_not_take_is_refused(
    given: tuple[int, ...], named: dict[str, int]
) -> None:
    for made in (Point, _Point):
        with pytest.raises(TypeError):
            made(*given, **named)


def test_equal_are_those_of_one_kind_with_equal_values() -> None:
    assert Point(1) == Point(1, 2)
    assert Point(1) != Point(2)
    assert Point(1, 3) != Place(1, 3)
    assert Point(1).__eq__((1, 2)) is NotImplemented
    assert len({Point(1), Point(1, 2), Point(2)}) == 2
    assert hash(Point(1)) == hash(_Point(1))


def test_nothing_can_be_changed() -> None:
    for each in (Point(1), Odd(1)):
        with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
            each.x = 2  # type: ignore[misc,union-attr]
        with pytest.raises(dataclasses.FrozenInstanceError, match="'x'"):
            del each.x  # type: ignore[union-attr]


def test_slots_leave_no_room_for_more() -> None:
    assert not hasattr(Point(1), "__dict__")
    assert not hasattr(Place(1), "__dict__")
    assert hasattr(Odd(1), "__dict__")


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=["point", "place", "odd"])
def test_whoever_asks_finds_a_dataclass(ours: Any, theirs: Any) -> None:
    is_one: Callable[[Any], bool] = dataclasses.is_dataclass
    assert is_one(ours)
    assert is_one(ours(1))
    assert repr(ours(1)) == repr(theirs(1)).replace("_", "")
    assert ours.__match_args__ == theirs.__match_args__
    assert dataclasses.asdict(ours(1)) == dataclasses.asdict(theirs(1))
    assert inspect.signature(ours).parameters.keys() == inspect.signature(theirs).parameters.keys()
    for mine, other in zip(dataclasses.fields(ours), dataclasses.fields(theirs), strict=True):
        assert (mine.name, mine.type, mine.default) == (other.name, other.type, other.default)
    changed = dataclasses.replace(ours(1), **{ours.__match_args__[0]: 3})
    assert changed == ours(3)


def test_a_record_that_refuses_its_values_is_not_made() -> None:
    with pytest.raises(ValueError, match="4 is even"):
        Odd(4)
    with pytest.raises(ValueError, match="4 is even"):
        dataclasses.replace(Odd(3), number=4)


@pytest.mark.parametrize("each", [Point(1), Place(1, name="there"), Odd(5, {"a": 1})], ids=repr)
def test_records_are_copied_and_stored(each: object) -> None:
    assert copy.copy(each) == each
    assert copy.deepcopy(each) == each
    assert pickle.loads(pickle.dumps(each)) == each  # noqa: S301  # our own


class Pair(NamedTuple):
    """Two of a kind."""

    first: int
    second: str = "2"

    def joined(self) -> str:
        return f"{self.first}{self.second}"


class _Pair(typing.NamedTuple):
    first: int
    second: str = "2"


def test_named_tuples_are_like_those_of_typing() -> None:
    for made in (Pair, _Pair):
        pair = made(1)
        assert pair == (1, "2")
        first, second = pair
        assert (first, second, pair.second) == (1, "2", "2")
        assert pair._replace(first=3) == (3, "2")
        assert made._fields == ("first", "second")
        assert made._field_defaults == {"second": "2"}
        with pytest.raises(TypeError):
            made()  # type: ignore[call-arg]
        with pytest.raises(AttributeError):
            pair.third = 3  # type: ignore[union-attr]
        assert pickle.loads(pickle.dumps(pair)) == pair  # noqa: S301  # our own
    assert Pair(1).joined() == "12"
    assert repr(Pair(1)) == "Pair(first=1, second='2')"
    assert (Pair.__doc__, Pair.__module__) == ("Two of a kind.", __name__)


def test_a_protocol_asks_for_nothing_at_run_time() -> None:
    class Named(Protocol):
        name: str

    five: object = cast("Named", 5)
    assert five == 5


DEAR = {"argparse", "dataclasses", "inspect", "json", "platform", "re", "shutil", "typing"}
"""What takes long to be imported, and what a link that goes well has no use for."""

_COMMAND = """
import sys
before = set(sys.modules)
from linker.cli import main
assert main(["--quiet", "--mode", "copy", "--processes", "2", *sys.argv[1:]]) == 0
print(*sorted(set(sys.modules) - before))
"""


def test_a_link_that_goes_well_imports_nothing_dear(ground: str) -> None:
    for number in range(600):
        directory = f"{ground}/source/{number // 20}"
        if number % 20 == 0:
            subprocess.run(["mkdir", "-p", directory], check=True)
        with open(f"{directory}/{number}", "w", encoding="utf-8") as file:
            file.write("a")

    run = subprocess.run(
        [sys.executable, "-I", "-c", _COMMAND, f"{ground}/source", f"{ground}/target"],
        check=True,
        capture_output=True,
        text=True,
    )

    assert "linker.engine" in run.stdout.split()
    assert DEAR.isdisjoint(run.stdout.split())
