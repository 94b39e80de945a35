"""The calls of a link on macOS over the model, taken one by one like those on Linux.

The steps of a directory clone that is not atomic are calls as well: each can fail, be counted, or
be the last.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from linker import LinkMode
from linker.platforms.linux import Calls
from linker.platforms.macos import MacPlatform
from pytest_linkmode.models.clonefile import Model
from pytest_linkmode.models.darwin import as_darwin
from tests.linker.scenes import Scene
from tests.linker.seams import REFLINKING, Deed, Tap
from tests.linker.verdicts import Ends

C_FUNCTIONS = frozenset(
    {"clonefileat", "fclonefileat", "renameatx_np", "flistxattr", "fremovexattr"}
)


class MacTap(Tap):
    """Counts the calls of a link on macOS and asks a deed before each."""

    def __init__(
        self,
        deed: Deed | None = None,
        *,
        atomic: bool = True,
        quirks: Set[str] = frozenset(),
        host: Calls = REFLINKING,
    ) -> None:
        super().__init__(deed)
        self.model = Model(atomic=atomic, quirks=quirks, host=host, wrap=self._seam)

    @property
    def platform(self) -> MacPlatform:
        return self.model.platform

    def _seam(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        tapped = self._wrap(name, call)
        if name.startswith("item_"):
            return tapped

        def spoken(*given: Any, **options: Any) -> Any:
            try:
                return tapped(*given, **options)
            except OSError as error:
                if not hasattr(error, "injected"):
                    raise
                said = as_darwin(error)
                if name not in C_FUNCTIONS:
                    raise said from error
                self.model.leave_errno(said.errno or 0)
                return -1

        return spoken


class MacEnds(Ends):
    """What a scene is before and after an undisturbed run on macOS."""

    def __init__(self, scene: Scene, mode: LinkMode, *, atomic: bool) -> None:
        self.atomic = atomic
        super().__init__(scene, mode)

    def tap(self, deed: Deed | None = None) -> Tap:
        return MacTap(deed, atomic=self.atomic)
