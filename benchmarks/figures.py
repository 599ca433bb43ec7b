"""Values of a benchmark's result. Pure."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 1000
MILLISECONDS = 1000.0


class BenchmarkError(Exception):
    """A benchmark cannot be run, or measured something other than it says; the message is for the user."""


@dataclass(frozen=True)
class Ratio:
    """How many times the peer's median ours is, with a bootstrap confidence interval of 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One line of a result.

    Attributes:
        p50: the median, or the amount itself where there is only one.
        p99: the largest value where n is below 100; None for an amount.
        ratio: to the peer; None for the peer itself and where there is none.
    """

    label: str
    unit: str
    p50: float
    n: int = 1
    p99: float | None = None
    ratio: Ratio | None = None


@dataclass(frozen=True)
class Result:
    """What one benchmark found: lines, and sentences that say how to read them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def times(label: str, seconds: Sequence[float], *, peer: Sequence[float] = ()) -> Row:
    """Return the row of a series of durations, in milliseconds."""
    if not seconds:
        raise BenchmarkError(f"{label}: nothing was measured")
    values = [second * MILLISECONDS for second in seconds]
    ratio = ratio_of_medians(seconds, peer) if peer else None
    return Row(label, "ms", statistics.median(values), len(values), percentile(values, 99), ratio)


def amount(label: str, value: float, unit: str, *, peer: float | None = None, n: int = 1) -> Row:
    """Return the row of something that was counted or weighed once."""
    ratio = Ratio(value / peer, value / peer, value / peer) if peer else None
    return Row(label, unit, value, n, None, ratio)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of all do not exceed."""
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]


def ratio_of_medians(ours: Sequence[float], peer: Sequence[float]) -> Ratio:
    """Return ours / peer. The seed is fixed: the same samples give the same interval."""
    draw = random.Random(0)  # noqa: S311 - resampling
    ratios = sorted(
        statistics.median(draw.choices(ours, k=len(ours))) / statistics.median(draw.choices(peer, k=len(peer)))
        for _ in range(RESAMPLES)
    )
    value = statistics.median(ours) / statistics.median(peer)
    return Ratio(value, percentile(ratios, 2.5), percentile(ratios, 97.5))
