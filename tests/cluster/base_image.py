"""The base image: a minimal Debian trixie with Python 3.13, made by mmdebstrap.

No registry is asked for it. Mirror and proxy are those of the host's apt, read when the
image is made, so none is written down here.
"""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import packages
from .commands import note, run
from .errors import BuildError
from .layout import Layout
from .storage import Storage

SUITE = "trixie"
BASE_IMAGE = f"localhost/execpool-base:{SUITE}"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
MAKE_SECONDS = 900.0

_RECIPE = (
    "--variant=minbase",
    f"--include={','.join(PACKAGES)}",
    "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
    *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
    # Copied from the host for mmdebstrap's own use; kubelet and the builder mount theirs.
    '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
)
"""What is the same on every host, and so decides whether an image is up to date."""


def ensure(layout: Layout, *, refresh: bool = False) -> str:
    """Return the base image's name in the builder's storage, making it when its recipe changed."""
    packages.ensure(packages.IMAGES)
    storage = Storage(layout)
    if not refresh and storage.label(BASE_IMAGE, "recipe") == _recipe():
        return BASE_IMAGE
    note(f"making the base image {BASE_IMAGE}; this takes about half a minute")
    with tempfile.TemporaryDirectory(dir=storage.folder()) as folder:
        root = Path(folder) / "rootfs.tar"
        run(_mmdebstrap(root), timeout=MAKE_SECONDS)
        # A two-line Dockerfile lets the builder unpack, commit and label in one go.
        (Path(folder) / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        arguments = ["--label", f"{storage.label_key('recipe')}={_recipe()}", "--tag", BASE_IMAGE]
        storage.buildah("bud", "--isolation", "chroot", *arguments, folder, timeout=MAKE_SECONDS)
    return BASE_IMAGE


def _recipe() -> str:
    return hashlib.sha256(repr((SUITE, _RECIPE)).encode()).hexdigest()[:16]


def _mmdebstrap(root: Path) -> list[str]:
    options = [f"--aptopt={option}" for option in _host_options()]
    return ["mmdebstrap", "--quiet", *_RECIPE, *options, SUITE, str(root), *_sources()]


def _sources() -> list[str]:
    """Return the host's Debian archives as sources of our suite (`bookworm-updates` becomes `trixie-updates`)."""
    host = _host_suite()
    fields = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]).splitlines()
    found: dict[str, None] = {}
    for uri, release, component in (target.split() for target in targets):
        if component == "main" and (release == host or release.startswith(f"{host}-")):
            found[f"deb {uri} {release.replace(host, SUITE, 1)} {component}"] = None
    if not found:
        raise BuildError(f"the host's apt names no Debian archive for {host or 'its release'} to take {SUITE} from")
    return list(found)


def _host_suite() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    return ""


def _host_options() -> Iterator[str]:
    """Yield the host's apt settings on how to reach the archive."""
    for line in run(["apt-config", "dump", "Acquire"]).splitlines():
        name = line.partition(" ")[0]
        if name.startswith(("Acquire::http::", "Acquire::https::")) or name == "Acquire::Check-Valid-Until":
            yield line
