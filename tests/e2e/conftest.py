"""execpool installed on the real cluster as `make up` installs it, with its shipped roles, and one story per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.story import Installed, Story

from execpool.cli.doors import LocalClusterDoor, gateway_url
from execpool.cli.up import apply_base, await_rollout

ROOT = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def installed(cluster) -> Iterator[Installed]:
    """Install operator and gateway from manifests/base with images of this tree."""
    door = LocalClusterDoor(ROOT)
    images = door.images()
    apply_base(door, images)
    await_rollout(door)
    with gateway_url(door) as url:
        yield Installed(cluster, url, images)


@pytest.fixture
def story(installed: Installed, namespace: str) -> Iterator[Story]:
    """Yield a namespace with a key; its pools are deleted afterwards, so that the node is free for the next story."""
    told = Story(installed, namespace)
    told.make_key("tenant-a")
    yield told
    told.kubectl("delete", "executionpools", "--all", "--wait=false")
