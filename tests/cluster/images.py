"""Puts images into the node's containerd, and makes the pause image.

The node pulls nothing: what pods use is imported from archives. The pause image is built
from Kubernetes' own source in the Go module cache and kept in the cache folder.
"""

import hashlib
import io
import json
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import binaries, mounts
from .commands import note, run
from .errors import ClusterError
from .layout import Layout
from .node import CONTAINERD_SOCKET, PAUSE_IMAGE

IMPORT_SECONDS = 600.0


@dataclass(frozen=True)
class Archived:
    """An image inside an archive: its name there and the digest of its manifest, if the archive says."""

    name: str
    digest: str | None


def pause_archive(layout: Layout) -> Path:
    """Return the archive of the pause image, making it first when the cache has none."""
    target = layout.images / "pause.tar"
    if not target.exists():
        layout.images.mkdir(parents=True, exist_ok=True)
        source = binaries.module_folder("k8s.io/kubernetes") / "build" / "pause" / "linux" / "pause.c"
        with tempfile.TemporaryDirectory(dir=layout.images) as folder:
            program, archive = Path(folder) / "pause", Path(folder) / "pause.tar"
            run(["gcc", "-Os", "-static", "-DVERSION=3.10", "-o", program, source], timeout=120)
            _write_archive(archive, program, PAUSE_IMAGE)
            archive.rename(target)
    return target


def load(layout: Layout, archive: Path) -> list[str]:
    """Import an archive unless the node has its images already; return their names in the node.

    The archive travels over standard input, because the node's file system is not ours.
    """
    wanted = contents(archive)
    present = loaded(layout)
    if wanted and all(image.digest and present.get(image.name) == image.digest for image in wanted):
        return [image.name for image in wanted]
    with archive.open("rb") as stream:
        # --local: the daemon's transfer service would unpack a second time under another snapshotter key.
        run([*_ctr(layout), "images", "import", "--local", "-"], stdin=stream, timeout=IMPORT_SECONDS)
    after = loaded(layout)
    changed = (name for name, digest in after.items() if present.get(name) != digest)
    return sorted(name for name in changed if not name.startswith("sha256:"))


def loaded(layout: Layout) -> dict[str, str]:
    """Return the node's images by name, each with the digest of its manifest or index."""
    lines = run([*_ctr(layout), "images", "list"]).splitlines()[1:]
    rows = [line.split() for line in lines]
    return {row[0]: row[2] for row in rows if len(row) > 2}


def contents(archive: Path) -> list[Archived]:
    """Read an archive's index; an OCI layout names digests, a docker-archive does not."""
    try:
        with tarfile.open(archive) as tar:
            names = tar.getnames()
            if "index.json" in names:
                return [_oci_entry(entry) for entry in json.loads(_member(tar, "index.json"))["manifests"]]
            manifest = json.loads(_member(tar, "manifest.json"))
    except (OSError, tarfile.TarError, KeyError) as error:
        raise ClusterError(f"{archive} is not an image archive (oci-archive or docker-archive): {error}") from error
    return [Archived(name, None) for image in manifest for name in image["RepoTags"] or ()]


def _oci_entry(entry: dict[str, object]) -> Archived:
    annotations = entry.get("annotations")
    names = annotations if isinstance(annotations, dict) else {}
    # `docker save` puts only the tag into the standard annotation.
    name = names.get("io.containerd.image.name") or names.get("org.opencontainers.image.ref.name", "")
    return Archived(str(name), str(entry["digest"]))


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    stream = tar.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read()


def _ctr(layout: Layout) -> list[str]:
    program = binaries.directory(layout) / "ctr"
    return [*mounts.enter(layout), str(program), "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]


def _write_archive(target: Path, program: Path, name: str) -> None:
    """Write a docker-archive of one static program; building it needs no image tool."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        _add(tar, program.name, program.read_bytes(), 0o755)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": _architecture(),
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(target, mode="w") as tar:
        _add(tar, "config.json", json.dumps(config).encode())
        _add(tar, "layer.tar", layer.getvalue())
        _add(tar, "manifest.json", json.dumps(manifest).encode())
    note(f"made the pause image from {program.stat().st_size / 1024:.0f} KiB of Kubernetes' pause.c")


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _architecture() -> str:
    return run([binaries.go_command(), "env", "GOARCH"]).strip()
