"""Where the cluster lives: its folders, its addresses and its fixed names.

Names and addresses are fixed, so a machine holds one cluster at a time. 198.18.0.0/15 is
the range for benchmarks inside one's own network (RFC 2544): it clashes with neither a
home or company network nor with the usual pod ranges.
"""

import os
from dataclasses import dataclass
from pathlib import Path

NETNS = "execpool"
HOST_LINK = "execpool0"
NODE_LINK = "node0"
NODE_NAME = "execpool-node"
CGROUP = "execpool"

HOST_IP = "198.18.0.1"
NODE_IP = "198.18.0.2"
LINK_PREFIX = 24
POD_CIDR = "198.18.1.0/24"
SERVICE_CIDR = "198.19.0.0/16"
API_SERVICE_IP = "198.19.0.1"
API_PORT = 6443
API_URL = f"https://{NODE_IP}:{API_PORT}"
CLUSTER_DOMAIN = "cluster.local"

NETNS_FILE = Path("/run/netns") / NETNS
OWNER_LINK = Path("/run/execpool-cluster")
"""Points at the state folder of the machine's one cluster, whoever started it."""

SOURCE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Layout:
    """The state folder of one cluster, gone after `down`, and the cache, which stays."""

    state: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> "Layout":
        """Read EXECPOOL_STATE, EXECPOOL_CACHE and XDG_CACHE_HOME."""
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cache = Path(os.environ.get("EXECPOOL_CACHE") or home) / "execpool" / "cluster"
        state = Path(os.environ.get("EXECPOOL_STATE") or "/var/lib/execpool-cluster")
        return cls(state=state.absolute(), cache=cache.absolute())

    @property
    def kubeconfig(self) -> Path:
        """The administrator's credentials."""
        return self.state / "kubeconfig"

    @property
    def record(self) -> Path:
        """Which processes run, by pid and start time."""
        return self.state / "state.json"

    @property
    def pki(self) -> Path:
        """Certificates, keys and tokens."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Configuration files and kubeconfigs of the components."""
        return self.state / "config"

    @property
    def logs(self) -> Path:
        """One log file for each component."""
        return self.state / "logs"

    @property
    def mount_namespace(self) -> Path:
        """The file that keeps the node's mount namespace alive."""
        return self.state / "namespaces" / "mnt"

    @property
    def images(self) -> Path:
        """Image archives and the builder's storage, kept over `down`."""
        return self.cache / "images"

    def kubectl_environment(self) -> dict[str, str]:
        """Return what makes kubectl the administrator of this cluster.

        Its discovery cache goes with the cluster: the next one has the same address but not
        the same custom resources.
        """
        return {"KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self.state / "kubectl-cache")}

    def log(self, component: str) -> Path:
        """The log file of one component."""
        return self.logs / f"{component}.log"
