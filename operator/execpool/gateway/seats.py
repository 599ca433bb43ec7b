"""Rows of the claims table, and the slots that executions take in them. Changed by `claims.py` alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from execpool.core.claiming import Target
from execpool.core.gates import Gate
from execpool.core.sessions import Session
from execpool.protocol import ClaimGrant


@dataclass(slots=True, eq=False)
class Entry:
    """One row of the table."""

    target: Target
    holder: str | None = None
    grant: ClaimGrant | None = None
    in_use: int = 0
    session: Session | None = None
    """That which it was claimed for, and serves alone."""
    claiming: str | None = None
    """The claimant for whom a claim is under way."""
    out_until: float = 0.0
    failures: int = 0
    is_spent: bool = False
    """It serves nobody any more, and ends with the last run on it."""
    is_ending: bool = False
    """It is being told to end."""
    held_since: float = 0.0
    idle_since: float = 0.0
    """Its last run ended then, or its holder became known."""

    @property
    def claimant(self) -> str:
        """Whom it serves; empty while nobody."""
        return self.session.id if self.session else self.holder or ""

    @property
    def is_there(self) -> bool:
        """True while it is ready and has not been given up."""
        return self.target.ready and self.out_until < math.inf


@dataclass(slots=True, eq=False)
class Seat:
    """One slot of an executor, taken. Whoever has it gives it back with `Admission.leave`, once."""

    entry: Entry
    grant: ClaimGrant
    passed: Sequence[Gate] = ()
    """Gates that let its execution through."""
    has_started: bool = False
    """Something of the execution may have run here."""

    @property
    def target(self) -> Target:
        """The executor."""
        return self.entry.target
