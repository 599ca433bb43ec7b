"""buildah with a storage of its own below the cache folder, apart from any the host's user has."""

import json
import subprocess
from pathlib import Path

from .commands import QUICK, run
from .errors import BuildError
from .layout import Layout

LABELS = "dev.execpool.build"


class Storage:
    """The builder's images and layers, kept over `down` so that later builds are quick."""

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.images

    def folder(self) -> Path:
        """Return the images folder, which exists from then on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def buildah(self, command: str, *arguments: str | Path, timeout: float = QUICK, check: bool = True) -> str:
        """Run one buildah command on this storage and return its output."""
        return run([*self._prefix(), command, *arguments], timeout=timeout, check=check)

    def build(self, *arguments: str | Path, timeout: float) -> None:
        """Run a build with its output on the terminal's standard error: it is long, and its errors are the user's."""
        words = [*self._prefix(), "bud", *(str(argument) for argument in arguments)]
        try:
            done = subprocess.run(
                ["sh", "-c", 'exec "$@" >&2', "sh", *words], stdin=subprocess.DEVNULL, timeout=timeout, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"the image did not build within {timeout:.0f} s") from error
        if done.returncode:
            raise BuildError("the image did not build; the builder's output above says why")

    def release(self) -> None:
        """Unmount what builds left mounted; what another build is using stays, since it is busy."""
        root = f"{self._folder}/storage/"
        mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
        for point in sorted((point for point in mounted if point.startswith(root)), key=len, reverse=True):
            run(["umount", point], check=False)

    def label(self, image: str, name: str) -> str | None:
        """Return one of our labels of a stored image; None where image or label is missing."""
        answer = self.buildah("inspect", "--type", "image", image, check=False)
        if not answer.strip():
            return None
        labels = json.loads(answer)["OCIv1"]["config"].get("Labels") or {}
        value = labels.get(self.label_key(name))
        return None if value is None else str(value)

    def label_key(self, name: str) -> str:
        """Return the full name of one of our labels."""
        return f"{LABELS}.{name}"

    def _prefix(self) -> list[str]:
        root = self.folder()
        # overlay shares layers where vfs would copy the whole root file system at each step.
        return ["buildah", "--root", f"{root}/storage", "--runroot", f"{root}/run", "--storage-driver", "overlay"]
