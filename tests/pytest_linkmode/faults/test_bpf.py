"""The filter of every architecture, run by a small interpreter of classic BPF."""

from __future__ import annotations

import errno

import pytest

from pytest_linkmode.faults import bpf, ops
from pytest_linkmode.faults.spec import OPS

ARCHITECTURES = list(ops.ARCHITECTURES.values())


def run(program: bpf.Filter, data: dict[int, int]) -> int:
    """Return what the filter answers to a struct seccomp_data given as offset -> 32 bits."""
    accumulator, at = 0, 0
    while True:
        each = program[at]
        at += 1
        match each.code:
            case bpf.BPF_LD_W_ABS:
                accumulator = data.get(each.k, 0)
            case bpf.BPF_ALU_AND_K:
                accumulator &= each.k
            case bpf.BPF_JEQ_K:
                at += each.jt if accumulator == each.k else each.jf
            case bpf.BPF_JGE_K:
                at += each.jt if accumulator >= each.k else each.jf
            case bpf.BPF_RET_K:
                return each.k
            case code:
                raise AssertionError(f"the interpreter does not know {code:#x}")


def call(arch: ops.Architecture, number: int, arguments: dict[int, int]) -> dict[int, int]:
    data = {bpf.ARCH: arch.audit, bpf.NR: number & 0xFFFFFFFF}
    for index, value in arguments.items():
        data[bpf.ARGS + 8 * index] = value & 0xFFFFFFFF
        data[bpf.ARGS + 8 * index + 4] = value >> 32
    return data


def meant(way: ops.Way) -> dict[int, int]:
    return {} if way.when is None else {way.when.argument: way.when.value}


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_each_way_gets_its_own_answer(arch: ops.Architecture) -> None:
    actions = {way: bpf.refuse(100 + n) for n, way in enumerate(ops.ways(OPS, arch))}
    program = bpf.assemble(actions, arch)
    assert len(program) <= bpf.BPF_MAXINSNS
    for way, action in actions.items():
        assert run(program, call(arch, arch.numbers[way.call], meant(way))) == action


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_whatever_is_not_meant_is_allowed(arch: ops.Architecture) -> None:
    program = bpf.assemble(dict.fromkeys(ops.ways(OPS, arch), bpf.RET_USER_NOTIF), arch)
    for number in range(500):
        if number not in arch.numbers.values():
            assert run(program, call(arch, number, {})) == bpf.RET_ALLOW
    for name, arguments in (("ioctl", {1: 0x5401}), ("openat", {2: 0}), ("mknodat", {2: 0o010644})):
        assert run(program, call(arch, arch.numbers[name], arguments)) == bpf.RET_ALLOW


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
def test_bits_that_the_kernel_does_not_read_hide_nothing(arch: ops.Architecture) -> None:
    program = bpf.assemble(dict.fromkeys(ops.ways(("clone",), arch), bpf.RET_TRACE), arch)
    hidden = call(arch, arch.numbers["ioctl"], {1: 0xDEADBEEF << 32 | ops.FICLONE})
    assert run(program, hidden) == bpf.RET_TRACE


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=lambda arch: arch.name)
@pytest.mark.parametrize("closed", [None, bpf.RET_USER_NOTIF])
def test_what_would_escape_is_closed(arch: ops.Architecture, closed: int | None) -> None:
    program = bpf.assemble({}, arch, closed=closed)
    answer = bpf.refuse(errno.ENOSYS) if closed is None else closed
    other = next(each for each in ARCHITECTURES if each is not arch)
    assert run(program, call(other, 0, {})) == answer
    assert run(program, call(arch, arch.numbers["io_uring_setup"], {})) == answer
    assert run(program, call(arch, arch.numbers["write"], {})) == bpf.RET_ALLOW
    x32 = call(arch, bpf.X32_SYSCALL_BIT | 83, {})
    assert run(program, x32) == (answer if arch.x32 else bpf.RET_ALLOW)


def test_instructions_are_encoded_as_the_kernel_reads_them() -> None:
    program = (bpf.Instruction(bpf.BPF_JEQ_K, 0xC000003E, jt=1, jf=2),)
    assert bpf.encode(program) == bytes.fromhex("1500 01 02 3e0000c0")
