"""The node's network namespace and the host's two routes into it.

A veth pair joins host and node; pods hang off the node by `ptp` links. kube-proxy's rules
and every sysctl stay in the namespace. The host's only traces are the veth end and the
routes that go with it, so host processes reach pods, Services and the API server directly.
"""

from .commands import run
from .layout import (
    HOST_IP,
    HOST_LINK,
    LINK_PREFIX,
    NETNS,
    NETNS_FILE,
    NODE_IP,
    NODE_LINK,
    POD_CIDR,
    SERVICE_CIDR,
)

_IN_NODE = ("ip", "-n", NETNS)
_CREATE: tuple[tuple[str, ...], ...] = (
    ("ip", "netns", "add", NETNS),
    ("ip", "link", "add", HOST_LINK, "type", "veth", "peer", "name", NODE_LINK, "netns", NETNS),
    ("ip", "addr", "add", f"{HOST_IP}/{LINK_PREFIX}", "dev", HOST_LINK),
    ("ip", "link", "set", HOST_LINK, "up"),
    (*_IN_NODE, "link", "set", "lo", "up"),
    (*_IN_NODE, "addr", "add", f"{NODE_IP}/{LINK_PREFIX}", "dev", NODE_LINK),
    (*_IN_NODE, "link", "set", NODE_LINK, "up"),
    (*_IN_NODE, "route", "add", "default", "via", HOST_IP),
    ("ip", "route", "add", POD_CIDR, "via", NODE_IP),
    ("ip", "route", "add", SERVICE_CIDR, "via", NODE_IP),
    ("nsenter", f"--net={NETNS_FILE}", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"),
)


def create() -> None:
    """Make the namespace, the link and the routes; nothing of them may exist yet."""
    for command in _CREATE:
        run(command)


def remove() -> None:
    """Remove whatever of it exists; routes go with the link."""
    run(["ip", "link", "del", HOST_LINK], check=False)
    run(["ip", "netns", "del", NETNS], check=False)
    folder = NETNS_FILE.parent
    if folder.is_dir() and not any(folder.iterdir()):
        # `ip netns add` mounts the folder on itself, and nothing of ip ever undoes that.
        run(["umount", folder], check=False)
        folder.rmdir()


def exists() -> bool:
    """Say whether the namespace is there."""
    return NETNS_FILE.exists()
