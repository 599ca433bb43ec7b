"""How long to wait after failures: doubled each time, up to a limit, for any number of them."""

_MOST_DOUBLINGS = 30
"""Enough for every pair of base and limit in use; without it, days of failures overflow a float."""


def backoff(failures: int, base: float, most: float) -> float:
    """Return the seconds to wait after so many failures in a row (0: the first wait)."""
    return min(base * 2.0 ** min(failures, _MOST_DOUBLINGS), most)
