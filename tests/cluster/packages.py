"""The Debian packages that building and running the cluster needs.

A package counts as present when the file that we need of it exists, so hosts where the
tool came from elsewhere are left alone.
"""

import os
import shutil
from pathlib import Path

from .commands import note, run
from .errors import PackagesMissingError

INSTALL_SECONDS = 600.0

RUNNING = {
    "conntrack": "conntrack",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "ethtool": "ethtool",
    "iproute2": "ip",
    "iptables": "iptables",
    "mount": "mount",
    "openssl": "openssl",
    "socat": "socat",
    "util-linux": "nsenter",
}
BUILDING = {
    "gcc": "gcc",
    "libc6-dev": "/usr/include/stdio.h",
    "libseccomp-dev": "/usr/include/seccomp.h",
    "pkg-config": "pkg-config",
}
IMAGES = {
    "buildah": "buildah",
    "mmdebstrap": "mmdebstrap",
    "debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
}


def missing(wanted: dict[str, str]) -> list[str]:
    """Return the packages of `wanted` whose file or program this host lacks."""
    return sorted(package for package, proof in wanted.items() if not _present(proof))


def ensure(wanted: dict[str, str]) -> None:
    """Install what is missing of `wanted` as root; otherwise say the one command that would."""
    lacking = missing(wanted)
    if not lacking:
        return
    command = f"apt-get update && apt-get install --yes {' '.join(lacking)}"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise PackagesMissingError(f"these packages are missing; install them with:\n  sudo sh -c '{command}'")
    note(f"installing Debian packages: {' '.join(lacking)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], timeout=INSTALL_SECONDS, env=env)
    install = ["apt-get", "install", "--yes", "-q", "--no-install-recommends"]
    run([*install, *lacking], timeout=INSTALL_SECONDS, env=env)


def _present(proof: str) -> bool:
    if proof.startswith("/"):
        return Path(proof).exists()
    # Not every account has the system folders on its PATH.
    return shutil.which(proof, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None
