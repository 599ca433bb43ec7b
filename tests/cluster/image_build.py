"""Builds an image from a Dockerfile and hands it to the running cluster.

The digest of all inputs names the archive in the cache: when it is there, nothing is
built, and when the node has its image already, nothing is loaded either.
"""

import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import base_image, images, pip_settings
from .cluster import Cluster
from .commands import note
from .context import Inputs
from .errors import ClusterError
from .layout import Layout
from .storage import Storage

BUILD_SECONDS = 3600.0
PUSH_SECONDS = 600.0
KEPT_ARCHIVES = 2
BASE_ARGUMENT = "BASE"


@dataclass(frozen=True)
class Recipe:
    """What to build an image from. The build argument BASE names our base image unless it is set here."""

    context: Path
    dockerfile: Path
    target: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    """The paths of the context that this target copies; empty means any of them."""


def build(layout: Layout, recipe: Recipe, tag: str) -> str:
    """Build if inputs changed, load if the cluster runs; return the name that pods use.

    A tag without a version gets the digest of all inputs, so that pods of a changed image are changed pods.
    """
    if not recipe.dockerfile.is_file() or not recipe.context.is_dir():
        raise ClusterError(
            f"a Dockerfile and a context folder are needed, not {recipe.dockerfile} and {recipe.context}"
        )
    storage = Storage(layout)
    arguments = {BASE_ARGUMENT: base_image.ensure(layout), **recipe.arguments}
    base = storage.buildah("inspect", "--type", "image", "--format", "{{.FromImageID}}", base_image.BASE_IMAGE)
    told = {**arguments, "--target": recipe.target}
    digest = Inputs(recipe.context, recipe.dockerfile, told, recipe.only, base.strip()).digest()
    name = full_name(tag, digest)
    archive = storage.folder() / f"{name.rpartition(':')[0].replace('/', '_').replace(':', '_')}-{digest}.tar"
    if not archive.exists():
        _build(storage, replace(recipe, arguments=arguments), name)
        _save(storage, name, archive)
    if Cluster(layout).healthy():
        images.load(layout, archive)
    return name


def full_name(tag: str, version: str) -> str:
    """Return the image name as pods must write it: without a host it would mean a public registry."""
    first, _, rest = tag.partition("/")
    named_host = bool(rest) and ("." in first or ":" in first or first == "localhost")
    name = tag if named_host else f"localhost/{tag}"
    return name if ":" in name.rpartition("/")[2] else f"{name}:{version}"


def _build(storage: Storage, recipe: Recipe, name: str) -> None:
    begun = time.monotonic()
    words: list[str | Path] = ["--isolation", "chroot", "--network", "host", "--layers", "--pull-never"]
    for key, value in recipe.arguments.items():
        words += ["--build-arg", f"{key}={value}"]
    if recipe.target:
        words += ["--target", recipe.target]
    note(f"building {name}; the first time takes minutes")
    with tempfile.TemporaryDirectory(dir=storage.folder()) as folder:
        words += pip_settings.mounts(Path(folder))
        try:
            storage.build(*words, "--file", recipe.dockerfile, "--tag", name, recipe.context, timeout=BUILD_SECONDS)
        finally:
            storage.release()
    note(f"built {name} in {time.monotonic() - begun:.1f} s")


def _save(storage: Storage, name: str, archive: Path) -> None:
    """Write the image as an archive in one step, and keep only the newest few of its name."""
    partial = archive.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    storage.buildah("push", name, f"oci-archive:{partial}:{name}", timeout=PUSH_SECONDS)
    partial.rename(archive)
    stem = archive.name.rpartition("-")[0]
    same = sorted(archive.parent.glob(f"{stem}-*.tar"), key=lambda file: file.stat().st_mtime)
    for old in same[:-KEPT_ARCHIVES]:
        old.unlink()
