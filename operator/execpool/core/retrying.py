"""How often may something be tried again? A tenth of what is tried for the first time, and one a second. Pure.

Without it every request that executors turn away becomes as many requests as there are executors, at the very moment when
they have least to spare.
"""

from dataclasses import dataclass

SHARE = 0.1
PER_SECOND = 1.0
MOST = 20.0
"""Retries that may be saved up: the executors of a node that has gone are all found out at once."""


@dataclass(slots=True)
class RetryBudget:
    """What one pool may try again. Times are seconds on the caller's clock, never going backwards."""

    at: float
    left: float = MOST

    def tried(self) -> None:
        """Note a first try."""
        self.left = min(self.left + SHARE, MOST)

    def take(self, now: float) -> bool:
        """Take one retry; False when there is none left."""
        self.left = min(self.left + (now - self.at) * PER_SECOND, MOST)
        self.at = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True
