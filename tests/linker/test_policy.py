"""The fallback graphs as data: what they say, what they cannot say, and what follows from them."""

from __future__ import annotations

import dataclasses
import enum

import pytest

from linker import LinkMode, policies
from linker.conditions import Condition, Primitive
from linker.policy import PRIMITIVES, Edge, Memory, Policy, Promise, State, Step, edges

REFERENCE, UV = policies.REFERENCE, policies.UV
CLONE, HARDLINK, SYMLINK, COPY = LinkMode

WORKING: dict[Primitive, Condition | None] = dict.fromkeys(PRIMITIVES.values())


def edge(
    mode: LinkMode | None = CLONE,
    primitive: Primitive = Primitive.CLONE_FILE,
    condition: Condition = Condition.IO,
    then: LinkMode | Step = COPY,
    otherwise: LinkMode | Step = Step.ABORT,
    state: State = State.ANY,
) -> Edge:
    return Edge("linux", mode, primitive, condition, then, otherwise, state)


def policy(*given: Edge, memory: Memory = Memory.PAIR) -> Policy:
    return Policy("test", given, "here", memory=memory)


@pytest.mark.parametrize("words", [Step, State, Memory, Promise])
def test_words_are_the_names_in_lower_case(words: type[enum.StrEnum]) -> None:
    """They stand in ids of edges, in reports and in diagrams."""
    wanted = [word.name.lower().replace("_", "-") for word in words]
    assert [word.value for word in words] == wanted


@pytest.mark.parametrize("found", REFERENCE.edges, ids=lambda found: found.id)
def test_reference_falls_to_copy_or_nowhere(found: Edge) -> None:
    """Rule 1: isolation never weakens, and from copy there is no way on."""
    assert found.fallback in (None, COPY)
    assert not (found.mode is COPY and found.fallback)


def test_in_reference_every_mode_has_a_way_on_from_every_refusal() -> None:
    for mode in (CLONE, HARDLINK, SYMLINK):
        for condition in (
            Condition.CROSS_DEVICE,
            Condition.UNSUPPORTED,
            Condition.DENIED,
            Condition.NO_EFFECT,
            Condition.AGAIN,
        ):
            found = REFERENCE.edge("linux", mode, PRIMITIVES[mode], condition)
            assert found is not None
            assert found.fallback is COPY


def test_in_reference_a_full_or_broken_disk_leads_nowhere() -> None:
    for mode in LinkMode:
        for condition in (Condition.NO_SPACE, Condition.IO, Condition.READ_ONLY):
            outcome = REFERENCE.outcome("linux", mode, {**WORKING, PRIMITIVES[mode]: condition})
            assert outcome.mode is None
            assert [taken.then for taken in outcome.edges] == [Step.ABORT]


def test_reference_believes_two_witnesses_and_remembers_a_pair() -> None:
    assert REFERENCE.confirmations == 2
    assert REFERENCE.memory is Memory.PAIR
    assert REFERENCE.retries >= 1
    assert REFERENCE.undo


@pytest.mark.parametrize("known", policies.ALL.values(), ids=lambda known: known.name)
def test_edges_have_names_of_their_own(known: Policy) -> None:
    names = [found.id for found in known.edges]
    assert len(set(names)) == len(names)
    assert known.source
    assert policies.ALL[known.name] is known


def test_what_a_policy_does_not_say_is_what_the_reference_linker_does() -> None:
    plain = Policy("plain", (), "here")
    assert (plain.default, plain.defaults) == (CLONE, {})
    assert (plain.memory, plain.settles) == (Memory.PAIR, Memory.FILE)
    assert (plain.confirmations, plain.retries) == (2, 3)
    assert (plain.undo, plain.restarts) == (True, False)
    assert plain.waives == frozenset()
    line = Edge("linux", CLONE, Primitive.CLONE_FILE, Condition.IO, COPY)
    assert (line.otherwise, line.state) == (Step.ABORT, State.ANY)
    assert (line.error, line.memory) == ("", None)
    (row,) = edges("linux", CLONE, Primitive.CLONE_FILE, (Condition.IO,), COPY)
    assert row == line


def test_a_policy_is_what_it_says_and_not_how_it_is_looked_up() -> None:
    one, other = policy(edge()), policy(edge())
    assert one == other
    assert "_index" not in repr(one)
    object.__setattr__(other, "_index", {})
    assert one == other
    with pytest.raises(TypeError):
        Policy("test", (), "here", _index={})  # type: ignore[call-arg]


def test_a_line_for_one_error_goes_before_that_of_its_condition() -> None:
    busy = Condition.BUSY
    every, one = edge(condition=busy), dataclasses.replace(edge(condition=busy), error="ETXTBSY")
    both = policy(every, one)
    found = [
        both.edge("linux", CLONE, Primitive.CLONE_FILE, busy, error=name)
        for name in ("ETXTBSY", "EBUSY", "")
    ]
    assert found == [one, every, every]
    assert both.edge("linux", CLONE, Primitive.CLONE_FILE, busy) is every
    assert policy(one).edge("linux", CLONE, Primitive.CLONE_FILE, busy) is None


def test_an_edge_says_what_it_is() -> None:
    found = edge(condition=Condition.AGAIN, then=Step.RETRY, otherwise=COPY, state=State.INITIAL)
    assert found.id == "linux/clone/clone-file/again/initial"
    assert str(found) == "linux/clone/clone-file/again/initial -> retry, then copy"
    assert edge(mode=None, primitive=Primitive.RENAME).id == "linux/*/rename/io"


def test_an_edge_meets_a_condition_or_one_error_that_means_it() -> None:
    plain = edge(condition=Condition.BUSY)
    assert plain.meets == "busy"
    assert dataclasses.replace(plain, error="ETXTBSY").meets == "busy (ETXTBSY)"


def test_a_fallback_is_where_an_edge_ends_in_another_mode() -> None:
    assert edge(then=COPY).fallback is COPY
    assert edge(then=Step.RETRY, otherwise=COPY).fallback is COPY
    assert edge(then=Step.RETRY, otherwise=Step.ABORT).fallback is None
    assert edge(then=Step.ABORT, otherwise=COPY).fallback is None
    assert edge(then=Step.REPLACE).fallback is None


def test_two_edges_for_one_failure_are_refused() -> None:
    with pytest.raises(ValueError, match="two edges for linux/clone/clone-file/io"):
        policy(edge(then=COPY), edge(then=Step.ABORT))
    policy(edge(state=State.INITIAL), edge(state=State.ESTABLISHED))


def test_a_mode_of_its_own_goes_before_every_mode() -> None:
    both = policy(
        edge(mode=None, primitive=Primitive.RENAME, then=Step.ABORT),
        edge(mode=HARDLINK, primitive=Primitive.RENAME, then=COPY),
    )
    own = both.edge("linux", HARDLINK, Primitive.RENAME, Condition.IO)
    every = both.edge("linux", CLONE, Primitive.RENAME, Condition.IO)
    assert own is both.edges[1]
    assert every is both.edges[0]
    assert both.edge("linux", CLONE, Primitive.EXCHANGE, Condition.IO) is None
    assert both.edge("macos", CLONE, Primitive.RENAME, Condition.IO) is None


def test_a_state_of_its_own_goes_before_any_state() -> None:
    both = policy(edge(state=State.ANY, then=Step.ABORT), edge(state=State.ESTABLISHED, then=COPY))

    def found(*, established: bool) -> Edge | None:
        return both.edge(
            "linux", CLONE, Primitive.CLONE_FILE, Condition.IO, established=established
        )

    assert found(established=True) is both.edges[1]
    assert found(established=False) is both.edges[0]


def test_an_outcome_follows_the_graph_to_its_end() -> None:
    refused = {**WORKING, Primitive.CLONE_FILE: Condition.CROSS_DEVICE}
    assert REFERENCE.outcome("linux", CLONE, WORKING).mode is CLONE
    assert REFERENCE.outcome("linux", CLONE, refused).mode is COPY
    assert UV.outcome("linux", CLONE, refused).mode is HARDLINK
    neither = {**refused, Primitive.HARDLINK: Condition.DENIED}
    found = UV.outcome("linux", CLONE, neither)
    assert found.mode is COPY
    assert [taken.mode for taken in found.edges] == [CLONE, HARDLINK]


def test_an_outcome_goes_on_after_retries() -> None:
    again = {**WORKING, Primitive.HARDLINK: Condition.AGAIN}
    assert REFERENCE.outcome("linux", HARDLINK, again).mode is COPY


def test_an_outcome_that_the_graph_does_not_know_is_an_error() -> None:
    odd = {**WORKING, Primitive.COPY: Condition.ATTRIBUTE}
    assert REFERENCE.outcome("linux", COPY, odd).mode is None
    assert REFERENCE.outcome("linux", COPY, odd).edges == ()


def test_an_outcome_may_need_every_edge_of_a_graph() -> None:
    only = policy(edge(CLONE, Primitive.CLONE_FILE, Condition.DENIED, COPY))
    found = only.outcome("linux", CLONE, {**WORKING, Primitive.CLONE_FILE: Condition.DENIED})
    assert found.mode is COPY
    assert found.edges == only.edges


def test_an_outcome_ends_even_where_a_graph_goes_round() -> None:
    circle = policy(
        edge(CLONE, Primitive.CLONE_FILE, Condition.DENIED, HARDLINK),
        edge(HARDLINK, Primitive.HARDLINK, Condition.DENIED, CLONE),
    )
    denied = dict.fromkeys(WORKING, Condition.DENIED)
    assert circle.outcome("linux", CLONE, denied).mode is None


def test_a_row_of_a_table_is_one_edge_for_each_condition() -> None:
    made = edges("linux", CLONE, Primitive.CLONE_FILE, (Condition.IO, Condition.BUSY), COPY)
    assert [found.condition for found in made] == [Condition.IO, Condition.BUSY]
    assert {found.then for found in made} == {COPY}


def test_a_policy_tells_the_edges_of_one_platform() -> None:
    elsewhere = Edge("macos", CLONE, Primitive.CLONE_FILE, Condition.IO, COPY)
    both = policy(edge(), elsewhere)
    assert both.of("macos") == (elsewhere,)
    assert both.of("linux") == (both.edges[0],)


def test_modes_are_told_by_their_words() -> None:
    assert LinkMode.parse(" Reflink ") is CLONE
    for mode in LinkMode:
        assert LinkMode.parse(mode.value) is mode
        assert str(mode) == mode.value
        assert mode.isolating is not mode.sharing
    assert [mode for mode in LinkMode if mode.isolating] == [CLONE, COPY]
    with pytest.raises(ValueError, match="choose one of clone, hardlink, symlink, copy"):
        LinkMode.parse("move")
