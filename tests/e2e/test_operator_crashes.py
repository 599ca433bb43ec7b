"""The operator is killed at every kind of write, before and after it, and another one carries on.

Thirty rounds of one story: a pool is made, scaled up and down, changed and deleted. Whatever the instant, every step ends
in the state that the undisturbed story ends in, the number of executors never exceeds `max`, and nothing is left over.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.local_operator import LocalOperator
from tests.e2e.story import SYSTEM, Installed, Story, eventually

MAX = 3
PLACES = [
    *(f"POST pods {number} {instant}" for number in (1, 2, 3) for instant in ("before", "after")),
    *(f"DELETE pods {number} {instant}" for number in (1, 2, 3) for instant in ("before", "after")),
    *(f"PATCH executionpools {number} {instant}" for number in (1, 2, 3, 4, 5) for instant in ("before", "after")),
    *(f"POST networkpolicies 1 {instant}" for instant in ("before", "after")),
    *(f"DELETE networkpolicies 1 {instant}" for instant in ("before", "after")),
    *(f"POST events 1 {instant}" for instant in ("before", "after")),
    *(f"PATCH leases {number} after" for number in (2, 3)),
]


@pytest.fixture(scope="module")
def stood_down(installed: Installed) -> Iterator[Installed]:
    """Take the installed operator out of the way for this file."""
    kubectl = installed.cluster.kubectl
    kubectl("--namespace", SYSTEM, "scale", "deployment/execpool-operator", "--replicas=0")
    selector = "app.kubernetes.io/name=execpool-operator"
    kubectl("--namespace", SYSTEM, "wait", "--for=delete", "pod", "--selector", selector, "--timeout=60s")
    yield installed
    kubectl("--namespace", SYSTEM, "scale", "deployment/execpool-operator", "--replicas=1")
    kubectl("--namespace", SYSTEM, "rollout", "status", "deployment/execpool-operator", "--timeout=60s")


def settle(story: Story, ready: int, most: int) -> int:
    """Wait for so many ready executors and no others; return the most that were seen at once."""
    deadline = time.monotonic() + 60
    while True:
        pods, status = story.pods(), story.status()
        most = max(most, len(pods))
        if (
            len(pods) == ready
            and status.get("readyReplicas") == ready
            and status.get("observedGeneration") == story.json("executionpool", "pool")["metadata"]["generation"]
        ):
            return most
        assert time.monotonic() < deadline, f"{len(pods)} pods, status {status}"
        time.sleep(0.05)


def test_there_are_thirty_rounds():
    assert len(PLACES) == 30


@pytest.mark.parametrize("place", PLACES)
def test_a_killed_operator_is_carried_on_from_where_it_stopped(
    stood_down: Installed, namespace: str, tmp_path: Path, place: str
):
    story = Story(stood_down, namespace)
    with LocalOperator(stood_down, namespace, tmp_path, crash_at=place) as operator:
        story.apply_pool(replicas=2, pods={"max": MAX})
        most = settle(story, 2, 0)
        story.kubectl("scale", "executionpool/pool", "--replicas=3")
        most = settle(story, 3, most)
        story.kubectl("scale", "executionpool/pool", "--replicas=1")
        most = settle(story, 1, most)
        story.kubectl("delete", "executionpool", "pool", "--timeout=60s")
        assert most <= MAX
        assert story.pods() == []
        assert story.json("networkpolicies")["items"] == []
        assert operator.lives == 2, f"the crash at {place!r} did not come, or others did:\n{operator.log()[-3000:]}"


def test_deletion_completes_although_the_operator_is_killed_half_way(
    stood_down: Installed, namespace: str, tmp_path: Path
):
    story = Story(stood_down, namespace)
    with LocalOperator(stood_down, namespace, tmp_path, crash_at="DELETE pods 2 after"):
        story.apply_pool(replicas=3, pods={"max": MAX})
        settle(story, 3, 0)
        story.kubectl("delete", "executionpool", "pool", "--timeout=60s")
    assert story.pods() == []


def test_a_pool_deleted_while_the_operator_was_down_is_released_when_it_is_back(
    stood_down: Installed, namespace: str, tmp_path: Path
):
    story = Story(stood_down, namespace)
    with LocalOperator(stood_down, namespace, tmp_path):
        story.apply_pool(replicas=2, pods={"max": MAX})
        settle(story, 2, 0)
    story.kubectl("delete", "executionpool", "pool", "--wait=false")
    assert len(story.pods()) == 2
    with LocalOperator(stood_down, namespace, tmp_path):
        eventually(
            lambda: "NotFound" in story.words_of("--namespace", namespace, "get", "executionpool", "pool"),
            "the pool released",
            30,
        )
    assert story.pods() == []
