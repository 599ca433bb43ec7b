"""From what is known of an account to the status that people read. Pure.

    | what holds it back                                    | Ready   | Stalled |
    |-------------------------------------------------------|---------|---------|
    | nothing                                               | True    | -       |
    | endpoint, Secret, key, spec: a person is needed       | False   | True    |
    | the breaker: E2B does not answer                      | False   | -       |

A full account, a spent budget and a rate that was learned leave it Ready: they are figures, and pools say what they miss.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from execpool.api.e2b import E2BAccountStatus, LearnedLimits, PoolSpend, Recent, SandboxCount, Spend
from execpool.api.names import ConditionType, Reason
from execpool.api.status import Condition
from execpool.core.budget import SpendWindow
from execpool.core.status import STALLING
from execpool.core.times import format_seconds


@dataclass(frozen=True)
class AccountView:
    """What is known of an account at one moment."""

    generation: int
    ours: int
    foreign: int
    breaker: str
    learned: LearnedLimits
    spend: SpendWindow
    pool_spend: Sequence[PoolSpend] = ()
    recent: Recent | None = None
    reason: Reason | None = None
    """Why nothing is asked of it; None while nothing holds it back."""
    message: str = ""


def summarize_account(before: E2BAccountStatus, view: AccountView, timestamp: str) -> E2BAccountStatus:
    """Return the whole status; `timestamp` (RFC 3339) marks the conditions that change."""
    verdicts = [_ready(view)]
    if view.reason in STALLING:
        verdicts.append((ConditionType.STALLED, "True", str(view.reason), view.message))
    return E2BAccountStatus(
        observed_generation=view.generation,
        conditions=_conditions(before.conditions, verdicts, view.generation, timestamp),
        sandboxes=SandboxCount(ours=view.ours, foreign=view.foreign),
        breaker=view.breaker,
        learned_limits=view.learned,
        spend=Spend(
            window_start=format_seconds(view.spend.start),
            settled_micro_usd=view.spend.settled,
            reserved_micro_usd=view.spend.reserved,
        ),
        pool_spend=list(view.pool_spend),
        recent=view.recent,
    )


def differ(before: E2BAccountStatus, after: E2BAccountStatus) -> bool:
    """True when a status is worth a write: what was asked for a moment ago is told with the next change."""
    return before.model_copy(update={"recent": None}) != after.model_copy(update={"recent": None})


def figures_differ_only(before: E2BAccountStatus, after: E2BAccountStatus) -> bool:
    """True when nothing has changed that somebody may wait for: such a status can be written a little later."""
    if {(one.pool_uid, one.budget) for one in before.pool_spend} != {
        (one.pool_uid, one.budget) for one in after.pool_spend
    }:
        return False  # a pool with a new budget may not have a sandbox before it is here
    return [(one.type, one.status, one.reason, one.message) for one in before.conditions] == [
        (one.type, one.status, one.reason, one.message) for one in after.conditions
    ]


def _ready(view: AccountView) -> tuple[str, str, str, str]:
    if view.reason is None:
        return (ConditionType.READY, "True", Reason.AVAILABLE, "sandboxes can be had")
    return (ConditionType.READY, "False", view.reason, view.message)


def _conditions(
    before: Sequence[Condition], verdicts: Sequence[tuple[str, str, str, str]], generation: int, timestamp: str
) -> list[Condition]:
    known = {condition.type: condition for condition in before}
    return [
        Condition(
            type=type_,
            status=status,
            observed_generation=generation,
            last_transition_time=was.last_transition_time
            if (was := known.get(type_)) is not None and was.status == status
            else timestamp,
            reason=reason,
            message=message[:1024],
        )
        for type_, status, reason, message in verdicts
    ]
