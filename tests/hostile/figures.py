"""The figures of the campaigns in the real pod: recorded by a test that is told to, read by the document.

`EXECPOOL_RECORD_FIGURES=1 pytest tests/e2e/test_hostile_pod.py`, then `python -m tests.hostile.document`.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.hostile.trial import Report, Size

FILE = Path(__file__).with_name("figures.json")


@dataclass(frozen=True)
class Figures:
    """What one campaign came to."""

    tried: int
    problems: int
    latest: float
    """Seconds from a program's limit to its answer, the longest."""
    polite: int
    p50: float
    p99: float
    longest: float
    """Of the polite runs, in seconds."""
    before: Size
    after: Size
    ends: dict[str, int] = field(default_factory=dict)


def of(report: Report) -> Figures:
    """Return the figures of a report."""
    polite = sorted(report.polite)
    return Figures(
        tried=report.tried,
        problems=len(report.problems),
        latest=round(report.latest, 2),
        polite=len(polite),
        p50=round(polite[len(polite) // 2], 3),
        p99=round(polite[int(len(polite) * 0.99)], 3),
        longest=round(polite[-1], 3),
        before=report.baseline,
        after=report.afterwards,
        ends=dict(sorted(report.ends.items())),
    )


def record(variant: str, figures: Figures) -> None:
    """Keep the figures of a variant, when the run is told to."""
    if os.environ.get("EXECPOOL_RECORD_FIGURES"):
        kept = {**read_all(), variant: asdict(figures)}
        FILE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")


def read() -> dict[str, Figures]:
    """Return what was recorded, by variant."""
    return {variant: Figures(**kept) for variant, kept in read_all().items()}


def read_all() -> dict[str, dict[str, object]]:
    """Return what was recorded, as it is in the file."""
    return dict(json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else {}
