"""Pictures below a cell: matplotlib's through IPython's inline backend, PIL's when shown or saved, as in E2B.

The inline backend hangs itself into the shell when pyplot first needs a backend: `plt.show()` and the end of a cell
then display every open figure and close it. All it needs is `ENVIRONMENT` in place before matplotlib is imported. A
program that chooses another backend by itself gets what that backend does, as in a kernel.

PIL has no such door, so its `show` and `save` are replaced once it is imported, or about to be.
"""

import os
import sys
from typing import Any

from IPython.display import display

ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    # Nobody can page or colour anything here.
    "PAGER": "cat",
    "GIT_PAGER": "cat",
}
"""What every process of a notebook finds in its environment."""

_PIL = "PIL.Image"
_OURS = "_execpool_displays"


def prepare(code: str) -> None:
    """Let PIL's pictures be displayed, if this cell may use PIL."""
    if _PIL in sys.modules or "PIL" in code:
        _display_pil()


def _display_pil() -> None:
    try:
        from PIL import Image
    except ImportError:
        return
    if hasattr(Image.Image, _OURS):
        return
    save = Image.Image.save

    def save_and_display(image: Any, fp: Any, format: str | None = None, **options: Any) -> None:  # noqa: A002 - PIL's name
        # Not for the file behind `savefig`: that figure is displayed by itself.
        if isinstance(fp, str | os.PathLike) and not _from_matplotlib():
            display(image)
        save(image, fp, format, **options)

    setattr(Image.Image, _OURS, True)
    Image.Image.save = save_and_display
    Image.Image.show = lambda image, *_, **__: display(image)


def _from_matplotlib() -> bool:
    return str(sys._getframe(2).f_globals.get("__name__", "")).startswith("matplotlib")  # noqa: SLF001 - the caller's module
