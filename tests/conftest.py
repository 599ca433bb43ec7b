"""Fixtures for every ring: the real cluster's come from tests/cluster."""

import signal

pytest_plugins = ["tests.cluster.pytest_cluster"]

# A command in the background of a script ignores SIGINT, and so does all that it starts: shells and kernels under test too.
signal.signal(signal.SIGINT, signal.default_int_handler)
