"""The line to a guest: bytes arrive as they were, and never too many at once."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest

from pytest_linkmode.guests import wire

Ends = tuple[wire.Wire, wire.Wire]


@pytest.fixture
def ends() -> Iterator[Ends]:
    one, other = socket.socketpair()
    with one, other:
        yield (
            wire.Wire(one.fileno(), one.fileno()),
            wire.Wire(other.fileno(), other.fileno()),
        )


def talk(ends: Ends) -> None:
    """Let both ends move things until there is nothing to move."""
    for _ in range(100_000):
        for end in ends:
            assert end.turn(0)
        if all(end.idle for end in ends):
            return
    raise AssertionError("they never came to rest")


def test_a_burst_arrives_whole_and_in_order_both_ways(ends: Ends) -> None:
    data = random.Random(7).randbytes(300_000)
    heard: tuple[list[bytes], list[bytes]] = ([], [])
    for end, pieces in zip(ends, heard, strict=True):
        end.sinks = {wire.OUTPUT: pieces.append}
        end.send(wire.OUTPUT, data)
    talk(ends)
    for pieces in heard:
        assert b"".join(pieces) == data
        assert max(map(len, pieces)) <= wire.LONGEST - wire.HEADER


def test_no_more_than_two_frames_are_ever_without_a_receipt() -> None:
    one, other = socket.socketpair()
    with one, other:
        sender = wire.Wire(one.fileno(), one.fileno())
        sender.send(wire.OUTPUT, bytes(100_000))
        for _ in range(50):
            sender.turn(0)
        assert len(other.recv(1 << 20)) == wire.WINDOW * wire.LONGEST
        other.send(bytes((wire.RECEIPT, 0, 0)))
        for _ in range(50):
            sender.turn(0)
        assert len(other.recv(1 << 20)) == wire.LONGEST


def test_streams_go_from_descriptor_to_descriptor_and_end(ends: Ends) -> None:
    near, far = ends
    reading, writing = os.pipe()
    out_reading, out_writing = os.pipe()
    far.sinks = {wire.INPUT: lambda piece: far.write_to(out_writing, piece)}
    near.read_from(reading, wire.INPUT)
    os.write(writing, b"one and two")
    talk(ends)
    assert os.read(out_reading, 100) == b"one and two"
    os.close(writing)
    while near.reads:
        near.turn(0)
    for _ in range(20):
        near.turn(0)
        far.turn(0)
    assert os.read(out_reading, 100) == b"", "it was closed at the other end, too"
    os.close(reading)
    os.close(out_reading)


def test_a_reader_that_takes_nothing_holds_nobody_up(ends: Ends) -> None:
    near, far = ends
    out_reading, out_writing = os.pipe()
    os.set_blocking(out_writing, False)
    errors: list[bytes] = []
    far.sinks = {
        wire.OUTPUT: lambda piece: far.write_to(out_writing, piece),
        wire.ERRORS: errors.append,
    }
    near.send(wire.OUTPUT, bytes(200_000))
    near.send(wire.ERRORS, b"heard all the same")
    for _ in range(2000):
        near.turn(0)
        far.turn(0)
    assert errors == [b"heard all the same"]
    os.close(out_reading)
    os.close(out_writing)


def test_the_end_of_the_other_is_noticed(ends: Ends) -> None:
    one, other = socket.socketpair()
    end = wire.Wire(one.fileno(), one.fileno())
    assert end.turn(0)
    other.close()
    assert not end.turn(1)
    one.close()
