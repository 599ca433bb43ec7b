"""How long a creation takes: drawn from what was measured on E2B. Pure but for the generator that it is given.

Measured from creation to first command: median 0.44 s, 95th percentile 0.85 s (ComputeSDK leaderboard, 2026-04-01); another
set has 4.1 s at the 99th percentile and 5.5 s at most (Podflare, April 2026). So a lognormal, and one creation in a hundred
that takes 4 to 5 s.
"""

import math
from enum import StrEnum
from random import Random

MEDIAN_SECONDS = 0.44
P95_SECONDS = 0.85
TAIL_SHARE = 0.01
TAIL_SECONDS = (4.0, 5.0)
_P95_SIGMAS = 1.6449
"""Standard deviations from a normal's median to its 95th percentile."""
_SIGMA = math.log(P95_SECONDS / MEDIAN_SECONDS) / _P95_SIGMAS


class Latency(StrEnum):
    """Which distribution."""

    NONE = "none"
    PUBLISHED = "published"


def draw(latency: Latency, random: Random) -> float:
    """Return the seconds that one creation is to take."""
    if latency is Latency.NONE:
        return 0.0
    if random.random() < TAIL_SHARE:
        return random.uniform(*TAIL_SECONDS)
    return random.lognormvariate(math.log(MEDIAN_SECONDS), _SIGMA)
