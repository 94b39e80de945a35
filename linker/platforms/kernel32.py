"""The calls of `linker.platforms.windows` on a real Windows: kernel32 and advapi32 by ctypes.

Only what Python's `os` has not, or does otherwise, is here; a failed call becomes an OSError with
its winerror. Imported on Windows alone.
"""

from __future__ import annotations

import ctypes
import struct
from typing import TYPE_CHECKING, Any

from linker import HERE
from linker.platforms.windows import Calls, Information, WindowsPlatform, refused

if TYPE_CHECKING or HERE == "win32":
    from ctypes import wintypes

_EPOCH = 116_444_736_000_000_000
"""The year 1970 in FILETIME: steps of 100 ns since 1601."""

_BASIC = struct.Struct("<qqqqI4x")
_BASIC_INFO, _END_OF_FILE_INFO, _RENAME_INFO_EX = 0, 6, 22
"""FileBasicInfo, FileEndOfFileInfo and FileRenameInfoEx of FILE_INFO_BY_HANDLE_CLASS."""

_DACL = 4
_MORE = 234
"""DACL_SECURITY_INFORMATION, ERROR_MORE_DATA."""

_RENAME = struct.Struct("@IPI")
"""The head of FILE_RENAME_INFO: flags, root directory, length of the name that follows."""


def filetime(nanoseconds: int) -> int:
    """Return a time as FILETIME; 0, which stands for no time, stays 0."""
    return max(nanoseconds // 100 + _EPOCH, 1) if nanoseconds else 0


def rename_information(path: str, flags: int) -> bytes:
    """Return FILE_RENAME_INFO for FileRenameInfoEx."""
    name = path.encode("utf-16-le", "surrogatepass")
    return _RENAME.pack(flags, 0, len(name)) + name + b"\0\0"


def wine_version() -> str:
    """Return the version of Wine that this runs on, empty on Windows itself."""
    ntdll: Any = ctypes.WinDLL("ntdll")  # type: ignore[attr-defined,unused-ignore]
    try:
        told = ntdll.wine_get_version
    except AttributeError:
        return ""
    told.restype = ctypes.c_char_p
    return str(told().decode("ascii"))


def proof() -> str:
    """Return what a link on this system proves: Wine is a model of Windows."""
    return "modelled" if wine_version() else "real"


class _FileInformation(ctypes.Structure):
    """BY_HANDLE_FILE_INFORMATION."""

    _fields_ = (
        ("dwFileAttributes", ctypes.c_uint32),
        ("ftCreationTime", ctypes.c_uint32 * 2),
        ("ftLastAccessTime", ctypes.c_uint32 * 2),
        ("ftLastWriteTime", ctypes.c_uint32 * 2),
        ("dwVolumeSerialNumber", ctypes.c_uint32),
        ("nFileSizeHigh", ctypes.c_uint32),
        ("nFileSizeLow", ctypes.c_uint32),
        ("nNumberOfLinks", ctypes.c_uint32),
        ("nFileIndexHigh", ctypes.c_uint32),
        ("nFileIndexLow", ctypes.c_uint32),
    )


class _Library:
    """kernel32 and advapi32, and the calls in the form of `Calls`."""

    def __init__(self) -> None:
        load: Any = ctypes.WinDLL  # type: ignore[attr-defined,unused-ignore]
        kernel: Any = load("kernel32", use_last_error=True)
        security: Any = load("advapi32", use_last_error=True)
        handle, text, number = wintypes.HANDLE, wintypes.LPCWSTR, wintypes.DWORD
        pointer, small = ctypes.c_void_p, ctypes.c_int
        self.invalid = handle(-1).value
        for library, name, result, arguments in (
            (
                kernel,
                "CreateFileW",
                handle,
                (text, number, number, pointer, number, number, handle),
            ),
            (kernel, "CloseHandle", small, (handle,)),
            (kernel, "ReadFile", small, (handle, pointer, number, pointer, pointer)),
            (kernel, "WriteFile", small, (handle, pointer, number, pointer, pointer)),
            (kernel, "SetFilePointerEx", small, (handle, ctypes.c_int64, pointer, number)),
            (
                kernel,
                "DeviceIoControl",
                small,
                (handle, number, pointer, number, pointer, number, pointer, pointer),
            ),
            (kernel, "GetFileInformationByHandle", small, (handle, pointer)),
            (
                kernel,
                "GetVolumeInformationByHandleW",
                small,
                (handle, pointer, number, pointer, pointer, pointer, pointer, number),
            ),
            (kernel, "SetFileInformationByHandle", small, (handle, small, pointer, number)),
            (kernel, "CreateHardLinkW", small, (text, text, pointer)),
            (kernel, "CreateSymbolicLinkW", ctypes.c_ubyte, (text, text, number)),
            (kernel, "MoveFileExW", small, (text, text, number)),
            (kernel, "FindFirstFileW", handle, (text, pointer)),
            (kernel, "FindClose", small, (handle,)),
            (security, "GetFileSecurityW", small, (text, number, pointer, number, pointer)),
        ):
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        """Tell a checker of types that the functions set above are there."""
        raise AttributeError(name)

    def last(self, path: str = "") -> OSError:
        """Return the error of the call that has just failed."""
        number: int = ctypes.get_last_error()  # type: ignore[attr-defined,unused-ignore]
        return refused(number, path)

    def open(self, path: str, access: int, share: int, disposition: int, flags: int) -> int:
        found = self.CreateFileW(path, access, share, None, disposition, flags, None)
        if found == self.invalid:
            raise self.last(path)
        return int(found)

    def close(self, handle: int) -> None:
        if not self.CloseHandle(handle):
            raise self.last()

    def read(self, handle: int, buffer: memoryview) -> int:
        done = wintypes.DWORD()
        place = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        if not self.ReadFile(handle, place, len(buffer), ctypes.byref(done), None):
            raise self.last()
        return done.value

    def write(self, handle: int, buffer: memoryview) -> int:
        done = wintypes.DWORD()
        if buffer.readonly:
            place: Any = bytes(buffer)
        else:
            place = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        if not self.WriteFile(handle, place, len(buffer), ctypes.byref(done), None):
            raise self.last()
        return done.value

    def seek(self, handle: int, position: int) -> None:
        if not self.SetFilePointerEx(handle, position, None, 0):
            raise self.last()

    def control(self, handle: int, code: int, data: bytes, size: int) -> bytes:
        answer = ctypes.create_string_buffer(size) if size else None
        done = wintypes.DWORD()
        if not self.DeviceIoControl(
            handle, code, data or None, len(data), answer, size, ctypes.byref(done), None
        ):
            number: int = ctypes.get_last_error()  # type: ignore[attr-defined,unused-ignore]
            if number != _MORE:
                raise refused(number)
        return answer.raw[: done.value] if answer is not None else b""

    def information(self, handle: int) -> Information:
        told = _FileInformation()
        if not self.GetFileInformationByHandle(handle, ctypes.byref(told)):
            raise self.last()
        size = told.nFileSizeHigh << 32 | told.nFileSizeLow
        return Information(told.dwFileAttributes, told.dwVolumeSerialNumber, size)

    def volume_flags(self, handle: int) -> int:
        flags = wintypes.DWORD()
        if not self.GetVolumeInformationByHandleW(
            handle, None, 0, None, None, ctypes.byref(flags), None, 0
        ):
            raise self.last()
        return flags.value

    def extend(self, handle: int, size: int) -> None:
        self._set(handle, _END_OF_FILE_INFO, struct.pack("<q", size))

    def stamp(self, handle: int, attributes: int, atime_ns: int, mtime_ns: int) -> None:
        data = _BASIC.pack(0, filetime(atime_ns), filetime(mtime_ns), 0, attributes)
        self._set(handle, _BASIC_INFO, data)

    def rename(self, handle: int, path: str, flags: int) -> None:
        self._set(handle, _RENAME_INFO_EX, rename_information(path, flags), path)

    def _set(self, handle: int, kind: int, data: bytes, path: str = "") -> None:
        if not self.SetFileInformationByHandle(handle, kind, data, len(data)):
            raise self.last(path)

    def hardlink(self, new: str, existing: str) -> None:
        if not self.CreateHardLinkW(new, existing, None):
            raise self.last(new)

    def symlink(self, new: str, text: str, flags: int) -> None:
        if not self.CreateSymbolicLinkW(new, text, flags):
            raise self.last(new)

    def move(self, old: str, new: str, flags: int) -> None:
        if not self.MoveFileExW(old, new, flags):
            raise self.last(new)

    def spelled(self, path: str) -> str:
        found = wintypes.WIN32_FIND_DATAW()
        handle = self.FindFirstFileW(path, ctypes.byref(found))
        if handle == self.invalid:
            raise self.last(path)
        self.FindClose(handle)
        return str(found.cFileName)

    def security(self, path: str) -> bytes:
        size = wintypes.DWORD()
        found = ctypes.create_string_buffer(4096)
        if not self.GetFileSecurityW(path, _DACL, found, len(found), ctypes.byref(size)):
            if size.value <= len(found):
                raise self.last(path)
            found = ctypes.create_string_buffer(size.value)
            if not self.GetFileSecurityW(path, _DACL, found, len(found), ctypes.byref(size)):
                raise self.last(path)
        return found.raw


def calls() -> Calls:
    """Return the real calls."""
    library = _Library()
    return Calls(
        open=library.open,
        close=library.close,
        read=library.read,
        write=library.write,
        seek=library.seek,
        control=library.control,
        information=library.information,
        volume_flags=library.volume_flags,
        extend=library.extend,
        stamp=library.stamp,
        hardlink=library.hardlink,
        symlink=library.symlink,
        move=library.move,
        rename=library.rename,
        security=library.security,
        spelled=library.spelled,
    )


def system() -> WindowsPlatform:
    """Return the platform of this system."""
    return WindowsPlatform(calls(), proof=proof())
