"""Flags of etcd, the API server, the controllers, the scheduler and CoreDNS.

Pure builders. Feature gates, admission plugins and limits stay at Kubernetes' defaults, so
what passes here passes on a real cluster; only rates that would make tests wait are raised.
"""

from pathlib import Path

from .component import Component, flags
from .credentials import kubeconfig
from .layout import API_PORT, API_URL, CLUSTER_DOMAIN, NODE_IP, POD_CIDR, SERVICE_CIDR, Layout

ETCD_URL = "http://127.0.0.1:2379"
ETCD_PEER_URL = "http://127.0.0.1:2380"
CLIENT_RATE = {"kube_api_qps": 300, "kube_api_burst": 500}
"""Client-side limits of 20 to 50 a second are what a test with many pods waits for."""


def etcd(layout: Layout, binaries: Path) -> Component:
    """Build etcd, which need not survive a power cut."""
    words = flags(
        data_dir=layout.state / "etcd",
        listen_client_urls=ETCD_URL,
        advertise_client_urls=ETCD_URL,
        listen_peer_urls=ETCD_PEER_URL,
        initial_advertise_peer_urls=ETCD_PEER_URL,
        initial_cluster=f"default={ETCD_PEER_URL}",
        unsafe_no_fsync=True,
        log_level="warn",
    )
    return Component("etcd", (str(binaries / "etcd"), *words))


def apiserver(layout: Layout, binaries: Path) -> Component:
    """Build the API server."""
    pki = layout.pki
    words = flags(
        etcd_servers=ETCD_URL,
        secure_port=API_PORT,
        advertise_address=NODE_IP,
        allow_privileged=True,
        authorization_mode="Node,RBAC",
        enable_admission_plugins="NodeRestriction",
        service_cluster_ip_range=SERVICE_CIDR,
        token_auth_file=pki / "tokens.csv",
        client_ca_file=pki / "ca.crt",
        tls_cert_file=pki / "apiserver.crt",
        tls_private_key_file=pki / "apiserver.key",
        service_account_issuer=f"https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
        service_account_key_file=pki / "service-account.pub",
        service_account_signing_key_file=pki / "service-account.key",
        # Without this, logs and exec look the node's name up in a DNS that does not know it.
        kubelet_preferred_address_types="InternalIP",
        kubelet_certificate_authority=pki / "ca.crt",
        kubelet_client_certificate=pki / "apiserver-kubelet-client.crt",
        kubelet_client_key=pki / "apiserver-kubelet-client.key",
        # The aggregation layer, for metrics-server and external metrics.
        requestheader_client_ca_file=pki / "front-proxy-ca.crt",
        requestheader_allowed_names="front-proxy-client",
        requestheader_extra_headers_prefix="X-Remote-Extra-",
        requestheader_group_headers="X-Remote-Group",
        requestheader_username_headers="X-Remote-User",
        proxy_client_cert_file=pki / "front-proxy-client.crt",
        proxy_client_key_file=pki / "front-proxy-client.key",
        enable_aggregator_routing=True,
    )
    return Component("kube-apiserver", (str(binaries / "kube-apiserver"), *words))


def controller_manager(layout: Layout, binaries: Path) -> Component:
    """Build the controller manager, each controller with its own service account."""
    config, pki = kubeconfig(layout, "kube-controller-manager"), layout.pki
    words = flags(
        kubeconfig=config,
        authentication_kubeconfig=config,
        authorization_kubeconfig=config,
        bind_address="127.0.0.1",
        leader_elect=False,
        use_service_account_credentials=True,
        service_account_private_key_file=pki / "service-account.key",
        root_ca_file=pki / "ca.crt",
        cluster_signing_cert_file=pki / "ca.crt",
        cluster_signing_key_file=pki / "ca.key",
        cluster_cidr=POD_CIDR,
        service_cluster_ip_range=SERVICE_CIDR,
        **CLIENT_RATE,
    )
    return Component("kube-controller-manager", (str(binaries / "kube-controller-manager"), *words))


def scheduler(layout: Layout, binaries: Path) -> Component:
    """Build the scheduler."""
    config = kubeconfig(layout, "kube-scheduler")
    words = flags(
        kubeconfig=config,
        authentication_kubeconfig=config,
        authorization_kubeconfig=config,
        bind_address="127.0.0.1",
        leader_elect=False,
        **CLIENT_RATE,
    )
    return Component("kube-scheduler", (str(binaries / "kube-scheduler"), *words))


def coredns(layout: Layout, binaries: Path) -> Component:
    """Build CoreDNS, a process on the node's address rather than a Deployment.

    It answers for the cluster only: nothing outside can be reached from the node anyway.
    """
    file = layout.config / "Corefile"
    corefile = f"""{CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
    bind {NODE_IP}
    errors
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        endpoint {API_URL}
        kubeconfig {kubeconfig(layout, "coredns")} execpool
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    cache 5
}}
"""
    return Component("coredns", (str(binaries / "coredns"), "-conf", str(file)), {file: corefile})


COREDNS_ROLE = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "system:coredns"},
    "rules": [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ],
}
COREDNS_BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "system:coredns"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns"},
    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
}
