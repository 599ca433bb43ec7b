"""What a runner does first, done in advance in a process that runners are forked from (`providers.nursery`).

Only a forked runner profits; one that is a container's first process does all of it in `prepare`.
"""

from execpool.executor.runner.notebook import Notebook


def warm_up() -> None:
    """Use the notebook once: each runner's own first use then takes a tenth of a second instead of half of one."""
    Notebook(network=False).warm_up()
