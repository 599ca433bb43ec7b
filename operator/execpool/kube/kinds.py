"""The kinds we talk about, with what a URL needs to know of each."""

from dataclasses import dataclass

from execpool.api.names import GROUP, VERSION


@dataclass(frozen=True)
class Kind:
    """A resource of the API server."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or `version` in the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Return the URL path of a collection, an object or its subresource."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/" + "/".join(parts)


POOLS = Kind(GROUP, VERSION, "executionpools", "ExecutionPool")
ACCOUNTS = Kind(GROUP, VERSION, "e2baccounts", "E2BAccount")
SANDBOXES = Kind(GROUP, VERSION, "e2bsandboxes", "E2BSandbox")
KEYS = Kind(GROUP, VERSION, "executionkeys", "ExecutionKey")
SECRETS = Kind("", "v1", "secrets", "Secret")
NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
PODS = Kind("", "v1", "pods", "Pod")
EVENTS = Kind("events.k8s.io", "v1", "events", "Event")
LEASES = Kind("coordination.k8s.io", "v1", "leases", "Lease")
NETWORK_POLICIES = Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
RUNTIME_CLASSES = Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
CRDS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False)
