"""Requests to the API server, as it counts them itself and as execpool counts its own.

The API server's counters do not say who asked, and the cluster is never silent: Leases are renewed, other people work.
So writes are compared with those of an idle window of the same length. Execpool's own counters have no such noise.
"""

from collections import Counter
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.cluster import Cluster, Part
from benchmarks.figures import BenchmarkError

WRITES = frozenset({"POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION"})
QUESTIONS = frozenset({"tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews", "localsubjectaccessreviews"})
"""Kinds that are posted and never stored."""

LISTED = 8

Counts = Counter[tuple[str, str]]
"""By verb and resource."""


@dataclass(frozen=True)
class Writes:
    """All writes that were counted up to a moment: by the API server, and by the parts of execpool of their own."""

    everybody: Counts
    gateway: Counts
    operator: Counts

    def since(self, earlier: "Writes") -> "Writes":
        """Return what was written in between."""
        return Writes(
            self.everybody - earlier.everybody, self.gateway - earlier.gateway, self.operator - earlier.operator
        )


async def read_writes(cluster: Cluster) -> Writes:
    """Read all counters now."""
    async with cluster.api.get(f"{cluster.api_url}/metrics", headers={"Accept": "text/plain"}) as response:
        if response.status != 200:
            raise BenchmarkError(f"the API server's /metrics answered {response.status}")
        text = await response.text()
    everybody = _counts(text, "apiserver_request_total", verb="verb", prefix="apiserver_request")
    return Writes(everybody, await _own_writes(cluster, cluster.gateway), await _own_writes(cluster, cluster.operator))


async def read_total(cluster: Cluster, part: Part, name: str) -> float:
    """Return the sum of one of execpool's own counters over all its labels."""
    samples = _samples(await _text(cluster, part), name, prefix=name.removesuffix("_total"))
    return sum(value for _, value in samples)


def by_resource(counts: Counts) -> str:
    """Return counts in words, the largest first; the rest of a long list as a sum."""
    listed = counts.most_common(LISTED)
    words = [f"{verb} {resource} {count}" for (verb, resource), count in listed]
    rest = counts.total() - sum(count for _, count in listed)
    return ", ".join(words + [f"others {rest}"] * (rest > 0)) or "none"


async def _own_writes(cluster: Cluster, part: Part) -> Counts:
    return _counts(
        await _text(cluster, part), "execpool_api_requests_total", verb="method", prefix="execpool_api_requests"
    )


async def _text(cluster: Cluster, part: Part) -> str:
    async with cluster.http.get(part.metrics_url) as response:
        if response.status != 200:
            raise BenchmarkError(f"{part.metrics_url} answered {response.status}")
        return await response.text()


def _counts(text: str, name: str, *, verb: str, prefix: str) -> Counts:
    counts: Counts = Counter()
    for labels, value in _samples(text, name, prefix=prefix):
        written = (
            labels.get(verb, "") in WRITES and labels.get("resource") not in QUESTIONS and not labels.get("dry_run")
        )
        if written:
            counts[labels[verb], _resource(labels)] += int(value)
    return counts


def _resource(labels: dict[str, str]) -> str:
    subresource = labels.get("subresource")
    return labels["resource"] + (f"/{subresource}" if subresource else "")


def _samples(text: str, name: str, *, prefix: str) -> list[tuple[dict[str, str], float]]:
    # The API server tells a megabyte of which one family is wanted: cut it out before it is parsed.
    lines = "\n".join(line for line in text.splitlines() if line.startswith((prefix, f"# TYPE {prefix}")))
    families = text_string_to_metric_families(lines + "\n")
    return [(sample.labels, sample.value) for family in families for sample in family.samples if sample.name == name]
