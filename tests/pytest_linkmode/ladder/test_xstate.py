"""Processors that keep more for each process than the kernel of a guest knows of."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from pytest_linkmode import processes
from pytest_linkmode.config import Settings
from pytest_linkmode.guests import gateway, uml, xstate

needs_x86 = pytest.mark.skipif(
    sys.platform != "linux" or os.uname().machine != "x86_64", reason="not Linux on x86_64"
)
needs_compiler = pytest.mark.skipif(
    processes.which(xstate.COMPILER) is None, reason=f"no {xstate.COMPILER}"
)

TRACER = """
import ctypes, errno, os, signal
GETREGSET, SETREGSET, PEEKUSER, KILL, TRACEME, XSTATE = 0x4204, 0x4205, 3, 8, 0, 0x202
OLDEST = 576  # x87, SSE and the header: what every processor with AVX exceeds
XMM0 = slice(160, 176)
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

class iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))

def regset(request, buffer, length):
    vector = iovec(ctypes.addressof(buffer), length)
    status = libc.ptrace(request, child, XSTATE, ctypes.addressof(vector))
    return errno.errorcode[ctypes.get_errno()] if status < 0 else vector.length

child = os.fork()
if child == 0:
    libc.ptrace(TRACEME, 0, None, None)
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(1)
os.waitpid(child, 0)
buffer = ctypes.create_string_buffer(1 << 16)
size = regset(GETREGSET, buffer, len(buffer))
assert size > OLDEST, size
for round in range(2):
    text = bytes([65 + round]) * 16
    buffer[XMM0] = text
    buffer[512] = bytes([buffer[512][0] | 2])  # XSTATE_BV: SSE is in use
    said = [regset(SETREGSET, buffer, OLDEST)]
    seen = ctypes.create_string_buffer(1 << 16)
    assert regset(GETREGSET, seen, len(seen)) == size
    said += [seen[XMM0] == text, regset(SETREGSET, seen, size) == size]
    print(*said)
user = libc.ptrace(PEEKUSER, child, 136, None)  # user_regs_struct: cs
print(hex(user & 0xFFFF), libc.ptrace(KILL, child, None, None))
os.waitpid(child, 0)
"""


def traced(**environment: str) -> list[str]:
    """Hand registers of a process back, first too few and then all of them; return what came."""
    return subprocess.run(
        (sys.executable, "-c", TRACER),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ).stdout.splitlines()


@needs_x86
def test_the_kernel_takes_back_all_registers_or_none() -> None:
    assert traced() == ["EFAULT False True"] * 2 + ["0x33 0"]


@needs_x86
@needs_compiler
def test_what_is_handed_back_is_completed() -> None:
    library = xstate.interposer()
    try:
        whole, again, rest = traced(LD_PRELOAD=f"/proc/{os.getpid()}/fd/{library}")
    finally:
        os.close(library)
    assert whole == again
    assert whole.split()[0].isdecimal()
    assert whole.split()[1:] == ["True", "True"]
    assert rest == "0x33 0"


@pytest.mark.parametrize(
    ("text", "large"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx amx_bf16 amx_tile\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx amx_tiles\n", False),
        ("processor\t: 0\nFeatures\t: fp asimd\n", False),
        (None, False),
    ],
    ids=["AMX", "none of it", "another architecture", "no such file"],
)
def test_what_the_processor_keeps_is_read_where_the_kernel_says_it(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, text: str | None, *, large: bool
) -> None:
    file = tmp_path / "cpuinfo"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(xstate, "CPUINFO", str(file))
    assert xstate.is_large.__wrapped__() is large


@needs_x86
def test_a_compiler_is_asked_for_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {gateway.KERNEL, "apt"}
    monkeypatch.setattr(processes, "which", lambda tool: tool if tool in here else None)
    monkeypatch.setattr(xstate, "is_large", lambda: False)
    assert uml.look(Settings()) is None
    monkeypatch.setattr(xstate, "is_large", lambda: True)
    refused = uml.look(Settings())
    assert refused is not None
    assert [line.partition(":")[0] for line in refused.checked] == [
        "cc, as this processor has AMX, of which the kernel of the package does not know"
    ]
    assert refused.mends == ("apt-get install gcc",)
    here.add(xstate.COMPILER)
    assert uml.look(Settings()) is None
