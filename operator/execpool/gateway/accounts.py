"""E2B accounts as gates: what an account allows holds over all pools that draw on it.

    E2BAccount.spec.limits.executionsPerMinute    a rate, shared by the pools that this gateway serves
    what its data plane answers                   a breaker, and the rate that refusals teach

The operator has its own breaker for the control plane: an account whose creations fail may still run code, and the other way
round.
"""

import random
from collections.abc import Callable

from pydantic import ValidationError

from execpool.api.v1alpha1 import E2BAccountSpec
from execpool.core.breaker import BreakerState, Seen
from execpool.core.budget import Rate
from execpool.core.claiming import Target
from execpool.core.gates import BreakerGate, Gate, LearnedGate, RateGate
from execpool.gateway.e2b_answers import Sight
from execpool.kube.client import EventType, Object
from execpool.telemetry.metrics import BREAKER_OPEN

Name = tuple[str, str]
"""Namespace and name."""
HOUR, MINUTES = 3600, 60
USED_PERMILLE = 990
"""Share of a declared rate that is used: what leaves evenly arrives a little unevenly."""


class Accounts:
    """All accounts that the watch shows, or that a pool names.

    Args:
        now: seconds.
        on_change: called when more may pass than before.
    """

    def __init__(self, now: Callable[[], float], on_change: Callable[[], None]) -> None:
        self._now = now
        self._on_change = on_change
        self._accounts: dict[Name, _Account] = {}

    def on_account(self, event: EventType, wire: Object) -> None:
        """Take in an account as the watch shows it. A spec that cannot be read leaves the last limit in force."""
        account = self._account((wire["metadata"]["namespace"], wire["metadata"]["name"]))
        try:
            spec = E2BAccountSpec.read(wire.get("spec") or {})
        except ValidationError:
            return
        account.limit(None if event is EventType.DELETED else spec.limits.executions_per_minute, self._now())
        self._on_change()

    def gates(self, name: Name) -> list[Gate]:
        """Return the gates before every execution on an account."""
        return self._account(name).gates()

    def saw(self, target: Target, sight: Sight) -> None:
        """Take in what a request to a sandbox came to."""
        name = target.as_sandbox().account
        account, now = self._account(name), self._now()
        account.learn(sight, now)
        changed = account.breaker.told(account.counted(target.uid, sight, now), now, random.uniform(0.5, 1.0))  # noqa: S311
        BREAKER_OPEN.labels(*name).set(account.breaker.state(now) is not BreakerState.CLOSED)
        if changed:
            self._on_change()

    def _account(self, name: Name) -> "_Account":
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = _Account("/".join(name))
        return account


class _Account:
    """The gates of one account."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rate: RateGate | None = None
        self._failed: set[str] = set()
        self.breaker = BreakerGate(f"the data plane of account {name}")
        self.pace = LearnedGate(f"the data plane of account {name}")

    def learn(self, sight: Sight, now: float) -> None:
        """Take in what a request says about the rate that is let through."""
        if sight.retry_after > 0:
            self.pace.refused(sight.retry_after, sight.asked_at, now)
        elif sight.seen is Seen.SUCCESS:
            self.pace.let_through(sight.asked_at, now)

    def counted(self, sandbox: str, sight: Sight, now: float) -> Seen:
        """Return what a sight counts as.

        An answer may come from a program that has taken over its sandbox, so one sandbox that fails says nothing of the
        account: in a row, each counts once. No program keeps us from connecting.
        """
        if sight.seen is not Seen.FAILURE:
            self._failed.clear()
            return sight.seen
        if sandbox in self._failed and sight.is_answer and self.breaker.state(now) is BreakerState.CLOSED:
            return Seen.NEUTRAL
        self._failed.add(sandbox)
        return Seen.FAILURE

    def limit(self, per_minute: int | None, now: float) -> None:
        """Set the rate; None for no limit that is known."""
        self.pace.declared = None if per_minute is None else _rate(per_minute).limit / MINUTES
        if per_minute is None:
            self._rate = None
        elif self._rate is None:
            # What did not start here may have been counted by E2B all the same.
            self._rate = RateGate(f"account {self._name}", _rate(per_minute), now, is_refunded=False)
        else:
            self._rate.renew(_rate(per_minute), now)

    def gates(self) -> list[Gate]:
        """Return its gates."""
        gates: list[Gate] = [self.breaker, self.pace]
        return gates if self._rate is None else [*gates, self._rate]


def _rate(per_minute: int) -> Rate:
    return Rate(per_minute * MINUTES * USED_PERMILLE // 1000, HOUR)
