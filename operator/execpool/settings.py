"""Settings of the operator and the gateway: read once from the environment in each `main`, frozen, passed down.

Per-pool knobs live in the ExecutionPool, per-process knobs here, nothing in both. Every variable starts with `EXECPOOL_`.
"""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from execpool.core.proof import KEY_BYTES, KeyRing, RootKey


class RootKeyError(ValueError):
    """The mounted root key cannot be used; the message says which file and what is wrong with it."""


class ProcessSettings(BaseSettings):
    """What operator and gateway share."""

    model_config = SettingsConfigDict(env_prefix="EXECPOOL_", frozen=True, use_attribute_docstrings=True)

    namespace: str = "execpool-system"
    """Namespace of this pod, where the Leases are."""
    pod_name: str = "local"
    """Name of this pod (downward API)."""
    pod_uid: str = "local"
    """UID of this pod (downward API): the identity in Leases."""
    namespaces: str = ""
    """Comma-separated namespaces whose pools are served; empty means all of them."""
    root_key_dir: Path = Path("/etc/execpool/root-key")
    """Directory with the files `current` and, during a rotation, `previous`: 64 hexadecimal digits each."""
    kubeconfig: Path | None = None
    """Kubeconfig to use instead of the pod's service account."""
    context: str | None = None
    """Context of that kubeconfig."""
    health_port: int = 8081
    """Port of /healthz, /readyz and /metrics."""
    host: str = "0.0.0.0"
    """Address that servers listen on."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    def watched_namespaces(self) -> tuple[str, ...]:
        """Return the namespaces named; empty means the whole cluster."""
        return tuple(name.strip() for name in self.namespaces.split(",") if name.strip())

    def key_ring(self) -> KeyRing:
        """Read the root key's generations.

        Raises:
            RootKeyError: when a file is absent or is not 64 hexadecimal digits.
        """
        files = [self.root_key_dir / "current", self.root_key_dir / "previous"]
        return KeyRing(tuple(_root_key(file) for file in files if file.exists() or file.name == "current"))


class OperatorSettings(ProcessSettings):
    """The operator's own."""

    executor_image: str = "localhost/execpool-executor:dev"
    """Image of executors whose tier names none: the one of this release."""
    user_namespaces: bool = True
    """Give executor pods a user namespace of their own (`hostUsers: false`); False on nodes that cannot."""
    egress_resolvers: str = "1.1.1.1 9.9.9.9"
    """Name servers of tiers with `network: Egress`, apart by blanks: the cluster's own is out of their reach."""
    lease_seconds: float = 15.0
    """Lifetime of the operator's Lease."""
    renew_seconds: float = 2.0
    """How often the Lease is renewed."""
    resync_seconds: float = 60.0
    """How often all pools are listed, to find what no watch event told."""
    start_timeout_seconds: float = 300.0
    """A warm executor that is not ready after this long is given up, unless a replacement would wait for the same thing."""

    e2b_endpoints: str = "https://api.e2b.app,http://execpool-emulator.execpool-system:8080"
    """Comma-separated addresses that an E2BAccount may name: E2B, and the emulator of this release. Anything else is refused."""
    cluster_id: str = ""
    """Name of this installation in the tags of its sandboxes; no other one that uses the same accounts may have it. Empty
    means the UID of the namespace kube-system, with the operator's own namespace."""

    def allowed_endpoints(self) -> tuple[str, ...]:
        """Return the addresses that an account may name."""
        return tuple(url.strip() for url in self.e2b_endpoints.split(",") if url.strip())


class GatewaySettings(ProcessSettings):
    """The gateway's own."""

    port: int = 8080
    """Port of the execution API."""
    lease_seconds: int = 15
    """How often the demand Lease is renewed without a change."""
    monitor_seconds: float = Field(default=30.0, gt=0)
    """How often a line is logged for each pool: what is warm, what runs, what waits, what it costs."""
    drain_seconds: float = 25.0
    """Longest wait for running executions after SIGTERM."""
    settle_seconds: float = 2.0
    """How long requests are still accepted after SIGTERM, while endpoints forget this gateway."""
    overtime_seconds: float = 5.0
    """How long after its time limit an executor may take to say how a run ended, before it is given up."""
    max_body_bytes: int = Field(default=2 << 20, ge=1024)
    """Largest request body."""
    max_pending_bytes: int = Field(default=96 << 20, ge=1024)
    """Most bytes of all requests and answers held at one time: bodies being read, executions that wait or run, answers that
    are being sent. More is refused with NoCapacity."""
    max_pending_bytes_per_tenant: int = Field(default=32 << 20, ge=1024)
    """Most of these bytes for one tenant of one namespace."""
    max_connections: int = Field(default=2048, ge=1)
    """Most connections to each port; one more is closed at once."""


def _root_key(file: Path) -> RootKey:
    try:
        material = bytes.fromhex(file.read_text().strip())
    except FileNotFoundError:
        raise RootKeyError(f"{file} does not exist; `make up` or `execpool root-key create` makes the Secret") from None
    except ValueError:
        raise RootKeyError(f"{file} is not hexadecimal") from None
    if len(material) != KEY_BYTES:
        raise RootKeyError(f"{file} holds {len(material)} bytes; {KEY_BYTES} are needed")
    return RootKey(material)
