"""Fixtures for every ring: the real cluster's come from tests/cluster."""

pytest_plugins = ["tests.cluster.pytest_cluster"]
