"""Filters assembled from the table of ops: classic BPF for seccomp(2), a few instructions a row.

A filter is one chain: the architecture, the calls that are closed, then a block for every system
call, which compares what its rows say and returns their action. Whatever is left is allowed, so
that the kernel (since 5.11) remembers by number that it need not run the filter for it again.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_linkmode.faults.ops import CLOSED, Architecture, Bits, Way

# linux/bpf_common.h
BPF_LD_W_ABS = 0x20
BPF_ALU_AND_K = 0x54
BPF_JEQ_K = 0x15
BPF_JGE_K = 0x35
BPF_RET_K = 0x06
BPF_MAXINSNS = 4096

# linux/seccomp.h, most forceful first
RET_ERRNO = 0x00050000
RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000
RET_ALLOW = 0x7FFF0000

# struct seccomp_data { int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]; }
NR, ARCH, ARGS = 0, 4, 16

X32_SYSCALL_BIT = 0x40000000

SOCK_FILTER = struct.Struct("=HBBI")
"""struct sock_filter { __u16 code; __u8 jt; __u8 jf; __u32 k; }"""


@dataclass(frozen=True, slots=True)
class Instruction:
    """struct sock_filter: jumps count the instructions to step over."""

    code: int
    k: int
    jt: int = 0
    jf: int = 0


Filter = tuple[Instruction, ...]


def refuse(number: int) -> int:
    """Return the action that fails a call with an error."""
    return RET_ERRNO | number


def assemble(
    actions: Mapping[Way, int], arch: Architecture, *, closed: int | None = None
) -> Filter:
    """Return a filter that answers each way with its action and allows all other calls.

    `closed` is the action for what would escape: calls of another architecture (32-bit programs,
    x32) and those of `CLOSED`; the default refuses them with ENOSYS.
    """
    escape = refuse(errno.ENOSYS) if closed is None else closed
    program = [
        Instruction(BPF_LD_W_ABS, ARCH),
        Instruction(BPF_JEQ_K, arch.audit, jt=1),
        Instruction(BPF_RET_K, escape),
        Instruction(BPF_LD_W_ABS, NR),
    ]
    if arch.x32:
        program += [Instruction(BPF_JGE_K, X32_SYSCALL_BIT, jf=1), Instruction(BPF_RET_K, escape)]
    for call in CLOSED:
        program += [
            Instruction(BPF_JEQ_K, arch.numbers[call], jf=1),
            Instruction(BPF_RET_K, escape),
        ]
    blocks: dict[int, list[Instruction]] = {}
    for way, action in actions.items():
        block = blocks.setdefault(arch.numbers[way.call], [])
        block += _test(way.when, action)
    for number, block in blocks.items():
        block.append(Instruction(BPF_RET_K, RET_ALLOW))
        program += [Instruction(BPF_JEQ_K, number, jf=len(block)), *block]
    program.append(Instruction(BPF_RET_K, RET_ALLOW))
    return tuple(program)


def _test(when: Bits | None, action: int) -> list[Instruction]:
    if when is None:
        return [Instruction(BPF_RET_K, action)]
    test = [
        # Both architectures are little-endian: the low half of an argument comes first.
        Instruction(BPF_LD_W_ABS, ARGS + 8 * when.argument),
        Instruction(BPF_JEQ_K, when.value, jf=1),
        Instruction(BPF_RET_K, action),
    ]
    if when.mask != 0xFFFFFFFF:
        test.insert(1, Instruction(BPF_ALU_AND_K, when.mask))
    return test


def encode(program: Filter) -> bytes:
    """Return the filter as the array of struct sock_filter that the kernel reads."""
    return b"".join(SOCK_FILTER.pack(each.code, each.jt, each.jf, each.k) for each in program)
