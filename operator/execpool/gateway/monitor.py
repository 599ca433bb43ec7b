"""The monitoring line: every 30 s one line for each pool, readable by people, with the same as fields for programs."""

import asyncio
import logging

from execpool.core.sample import fields, line
from execpool.gateway.pools import Pools

log = logging.getLogger(__name__)


class Monitor:
    """Tells what there is to tell of the pools.

    Args:
        pools: what there is.
        interval: seconds between two lines of a pool.
    """

    def __init__(self, pools: Pools, interval: float) -> None:
        self._pools = pools
        self._interval = interval

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await asyncio.sleep(self._interval)
            self.tell()

    def tell(self) -> None:
        """Write one line for each pool."""
        for pool in self._pools.all():
            if (sample := pool.sample()) is not None:
                log.info(line(sample), extra=fields(sample))
