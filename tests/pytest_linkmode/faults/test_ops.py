"""The table of system calls says what the kernel's own headers say."""

from __future__ import annotations

import pathlib
import re

import pytest

from pytest_linkmode.faults import ops
from pytest_linkmode.faults.spec import OPS

HEADERS = {
    "x86_64": ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm/unistd_64.h"),
    # aarch64 has the generic numbers.
    "aarch64": ("/usr/include/asm-generic/unistd.h",),
}
RENAMED = {"sendfile": ("sendfile", "3264_sendfile"), "renameat": ("renameat",)}


@pytest.mark.parametrize("arch", ops.ARCHITECTURES.values(), ids=lambda arch: arch.name)
def test_numbers_are_those_of_the_kernel_headers(arch: ops.Architecture) -> None:
    headers = [path for path in map(pathlib.Path, HEADERS[arch.name]) if path.exists()]
    if not headers:
        pytest.skip(f"no kernel headers: {' or '.join(HEADERS[arch.name])} (linux-libc-dev)")
    defined = {
        name.removeprefix("3264_"): int(number)
        for name, number in re.findall(
            r"#define __NR(?:_|3264_)(\w+)\s+(\d+)$", headers[0].read_text(), re.MULTILINE
        )
    }
    assert {name: defined.get(name) for name in arch.numbers} == dict(arch.numbers)


@pytest.mark.parametrize("arch", ops.ARCHITECTURES.values(), ids=lambda arch: arch.name)
def test_every_op_can_be_watched_on_every_architecture(arch: ops.Architecture) -> None:
    assert {way.op for way in ops.ways(OPS, arch)} == set(OPS)


def test_calls_that_have_no_row_on_an_architecture_do_not_exist_there() -> None:
    missing = {way.call for way in ops.WAYS} - set(ops.AARCH64.numbers)
    assert missing == {
        *("link", "symlink", "open", "creat", "mknod", "mkdir", "rename", "unlink", "rmdir"),
    }
    assert {way.call for way in ops.WAYS} <= set(ops.X86_64.numbers)


def test_ioctls_are_compared_by_the_bits_that_the_kernel_reads() -> None:
    for way in ops.WAYS:
        if way.call == "ioctl":
            assert way.when is not None
            assert way.when.mask == 0xFFFFFFFF
