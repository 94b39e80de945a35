"""The exceptions of this package: each says what, why, and how to mend it.

Two of them decide what a run does: `UsageError` ends it before collection, `Unavailable` skips
a test, or ends the run where what is missing was asked for by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

IMPORT_HINT = "is it installed, or on PYTHONPATH, or named by the ini key `pythonpath`?"
"""What may be wrong where a module that somebody named is not found."""


class LinkmodeError(Exception):
    """Something failed: what, why, and how to mend it."""

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        super().__init__(what, why, hint)
        self.what = what
        self.why = why
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        from linker.report import again

        return again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        return f"{text}\nhint: {self.hint}" if self.hint else text


class UsageError(LinkmodeError):
    """A request that cannot be understood or served, whatever the machine."""

    def of(self, asked: str) -> UsageError:
        """Return this error as that of the option, with its value, that asked for it."""
        why = f"{self.what}: {self.why}" if self.why else self.what
        return UsageError(asked, why=why, hint=self.hint)


class Unavailable(LinkmodeError):
    """Something that cannot be had here, with all that was looked at and all that would mend it.

    `checked` holds one sentence for each thing looked at; `mends` one command or option each,
    any of which helps.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        checked: Iterable[str] = (),
        mends: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(what, why=why, hint=hint)
        self.checked: tuple[str, ...] = tuple(dict.fromkeys(checked))
        self.mends: tuple[str, ...] = tuple(dict.fromkeys(mends))

    @classmethod
    def all_of(cls, what: str, causes: Sequence[Unavailable]) -> Unavailable:
        """Return one error that holds everything that several ways to `what` were missing."""
        return cls(
            what,
            checked=[line for cause in causes for line in cause.checked],
            mends=[line for cause in causes for line in cause.mends],
        )

    def __str__(self) -> str:
        lines = [f"{self.what}: {self.why}" if self.why else self.what]
        if self.checked:
            lines += ["Checked:", *(f"  - {line}" for line in self.checked)]
        if self.mends:
            either = "To fix this, either:" if len(self.mends) > 1 else "To fix this:"
            lines += [either, *(f"  - {line}" for line in self.mends)]
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return "\n".join(lines)
