"""Flags and configuration of what runs on the node: containerd, kubelet and kube-proxy.

Pure builders. Several settings exist only because the host may be a container itself
(cgroup v1, no CAP_SYS_RESOURCE, swap, small disks); the comments say which.
"""

import json
from pathlib import Path
from typing import Any

from .component import Component, flags
from .credentials import kubeconfig
from .layout import CGROUP, CLUSTER_DOMAIN, NODE_IP, NODE_NAME, POD_CIDR, Layout

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
"""In the node's own /run, see mounts.py: short, as socket paths may not pass 107 bytes."""

PAUSE_IMAGE = "localhost/pause:3.10"
POD_PIDS = 512
MAX_PODS = 250


def containerd(layout: Layout, binaries: Path) -> Component:
    """Build containerd with runc and a CNI chain without a bridge."""
    config, network = layout.config / "containerd.toml", layout.config / "cni" / "10-pods.conflist"
    text = f"""version = 3
root = "{layout.state}/containerd"
state = "/run/containerd"
oom_score = 0

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Lowering a score below one's own takes CAP_SYS_RESOURCE; without it no sandbox starts.
  restrict_oom_score_adj = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{network.parent}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      BinaryName = "{binaries}/runc"
      SystemdCgroup = false
"""
    command = (str(binaries / "containerd"), "--config", str(config), "--log-level", "warn")
    return Component("containerd", command, {config: text, network: json.dumps(_pod_network(), indent=2)})


def _pod_network() -> dict[str, Any]:
    # ptp, not bridge: each pod is routed, so a Service's answer from a pod beside the caller
    # passes the node's NAT on its way back even where the kernel has no br_netfilter.
    addresses = {
        "type": "host-local",
        "ranges": [[{"subnet": POD_CIDR}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipMasq": True, "ipam": addresses},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def kubelet(layout: Layout, binaries: Path) -> Component:
    """Build kubelet, tuned so that pods are seen Ready soon."""
    config = layout.config / "kubelet.json"
    words = flags(
        config=config,
        kubeconfig=kubeconfig(layout, "kubelet"),
        root_dir=layout.state / "kubelet",
        node_ip=NODE_IP,
        hostname_override=NODE_NAME,
    )
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        **_kubelet_access(layout),
        **_kubelet_host(),
        **_kubelet_pods(layout),
        **_kubelet_pace(),
    }
    files = {config: json.dumps(settings, indent=2), layout.config / "resolv.conf": f"nameserver {NODE_IP}\n"}
    return Component("kubelet", (str(binaries / "kubelet"), *words), files, own_mounts=True)


def _kubelet_access(layout: Layout) -> dict[str, Any]:
    """Return who may talk to kubelet: pods reach its port, so it must not be open."""
    return {
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
    }


def _kubelet_host() -> dict[str, Any]:
    """Return what lets kubelet live in its own cgroup on a host that is a container itself."""
    return {
        "failCgroupV1": False,
        "failSwapOn": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        # The host's disk is shared with everything else on it: evict only when it is full.
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
            "imagefs.inodesFree": "1%",
        },
        # Images are loaded by hand and cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _kubelet_pods(layout: Layout) -> dict[str, Any]:
    """Return what pods get."""
    return {
        "clusterDNS": [NODE_IP],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(layout.config / "resolv.conf"),
        "maxPods": MAX_PODS,
        "podPidsLimit": POD_PIDS,
        "registerWithTaints": [],
        # The default is a host path outside the state folder.
        "volumePluginDir": str(layout.state / "volume-plugins"),
    }


def _kubelet_pace() -> dict[str, Any]:
    """Return rates: the defaults are set for thousands of nodes on one API server."""
    return {
        "kubeAPIQPS": 300,
        "kubeAPIBurst": 500,
        "eventRecordQPS": 0,
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "4s",
        "serializeImagePulls": False,
    }


def kube_proxy(layout: Layout, binaries: Path) -> Component:
    """Build kube-proxy; its rules stay in the node's network namespace."""
    config = layout.config / "kube-proxy.json"
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig(layout, "kube-proxy")), "qps": 300, "burst": 500},
        "hostnameOverride": NODE_NAME,
        "mode": "iptables",
        "clusterCIDR": POD_CIDR,
        "iptables": {"minSyncPeriod": "100ms"},
        # The table's size belongs to the host's kernel and cannot be set from a namespace.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "oomScoreAdj": 0,
    }
    words = flags(config=config)
    return Component("kube-proxy", (str(binaries / "kube-proxy"), *words), {config: json.dumps(settings, indent=2)})
