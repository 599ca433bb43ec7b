"""An account's path, top to bottom: read it and its records, equip its desk, start what is due, tell, let go.

Level-triggered like a pool's: a round reads what is and starts the next step of each record. A step may wait for E2B for
twenty seconds, so it is a task of its own, one for each record at a time; a round waits for none, and is run again when one
ends. What a round reads or writes is all in Kubernetes; what steps ask of E2B goes through the desk.

The end of a record is the round's: what the sandbox cost is written into the account's status first, then the record goes. A
crash between the two counts it twice and loses nothing.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import ValidationError

from execpool.api.e2b import E2BAccountSpec, E2BAccountStatus, LearnedLimits
from execpool.api.names import Reason
from execpool.controller.equipping import Equipper
from execpool.core.account_status import AccountView, figures_differ_only, summarize_account
from execpool.core.spending import reserved_for, spent_for, window
from execpool.core.times import format_seconds
from execpool.kube.client import Kube, Object
from execpool.kube.errors import ConflictError, FencedError, ForbiddenError, KubeError, NotFoundError
from execpool.kube.kinds import ACCOUNTS, NAMESPACES, SANDBOXES
from execpool.providers.e2b.book import grant_of
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.desks import Desks
from execpool.providers.e2b.errors import E2BError
from execpool.providers.e2b.holds import Hold
from execpool.providers.e2b.records import AccountName, Record, read_records
from execpool.providers.e2b.slot_driver import Later, Over, SlotDriver, Vanished
from execpool.providers.e2b.sweeping import Sweeper

log = logging.getLogger(__name__)

CLUSTER_NAMESPACE = "kube-system"
"""Its UID is the nearest thing to an identity that a cluster has."""
STEPS_AT_ONCE = 32
LONGEST_REST = 60.0
SHORTEST_REST = 0.02
FORGET_SECONDS = 180.0
"""An account that does not exist is remembered so long after a pool last wanted to draw on it."""
STATUS_INTERVAL = 5.0
"""Figures change a status at most this often; conditions change it at once."""
KUBE_RETRY_SECONDS = 1.0
LONGEST_STEP_REST = 10.0
"""How long a step's wish to wait is kept; afterwards the driver says again, from what is known then."""


@dataclass(frozen=True)
class Account:
    """An account as read from the API server. `spec` is None when it makes no sense; `fault` says what is wrong."""

    generation: int
    resource_version: str
    spec: E2BAccountSpec | None
    status: E2BAccountStatus
    fault: Hold | None = None


@dataclass
class _Works:
    """What is under way for one account."""

    steps: dict[str, asyncio.Task[Later | Over | Vanished]] = field(default_factory=dict)
    """By UID of their record."""
    sweep: asyncio.Task[None] | None = None
    resting: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Until when a record's last step wants to be left alone, and the version of which it said so."""
    over: dict[str, Record] = field(default_factory=dict)
    gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STEPS_AT_ONCE))
    status_written: float = float("-inf")


@dataclass
class AccountRounds:
    """Attends to accounts. `on_progress` is told when a step of an account has ended."""

    kube: Kube
    desks: Desks
    driver: SlotDriver
    sweeper: Sweeper
    equipper: Equipper
    control_namespace: str
    namespaces: tuple[str, ...] = ()
    on_progress: Callable[[AccountName], None] = lambda _name: None
    _works: dict[AccountName, _Works] = field(default_factory=dict)

    async def attend(self, name: AccountName) -> float | None:
        """Move an account's records one step on.

        Returns:
            Seconds until it needs another look without an event; None when it is gone, and all that drew on it.
        """
        desk, works = self.desks.of(name), self._works.setdefault(name, _Works())
        self._reap(desk, works)  # before the list: a step that ends during it has written what the list may not show
        account = await self._read(name)
        records, _ = await self.list_records()
        mine = [record for record in records if record.account == name]
        if account is None and not mine and desk.watches.steady() - desk.asked_at > FORGET_SECONDS:
            await self._forget(name)
            return None
        desk.book.read(mine, self.driver.clock())
        self.sweeper.expect(name, max(len(records), account.status.sandboxes.ours if account else 0))
        if not works.steps and works.sweep is None:
            await desk.tidy()
        fault = (account.fault if account else None) or await self._name_cluster()
        await self.equipper.equip(desk, account.spec if account else None, fault)
        if account is not None:
            self._count_money(desk, account)
        for pool_uid in desk.admitted():
            self.desks.on_relief(pool_uid)
        rests = [self._start_steps(desk, works), self._start_sweep(desk, works), self.equipper.rests(desk)]
        rests.append(await self._tell(desk, works, account))
        return max(min(*rests, LONGEST_REST), SHORTEST_REST)

    async def list_records(self) -> tuple[list[Record], int]:
        """Return all records of all accounts, and how many of them cannot be read."""
        scopes: tuple[str | None, ...] = self.namespaces or (None,)
        listings = await asyncio.gather(*(self.kube.list(SANDBOXES, scope) for scope in scopes))
        return read_records(item for listing in listings for item in listing.items)

    async def settle(self, name: AccountName) -> None:
        """Wait until nothing is under way for an account; for tests, and for the end."""
        works = self._works.get(name)
        if works is not None:
            tasks = [*works.steps.values(), *([works.sweep] if works.sweep else [])]
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """End everything that is under way; whatever E2B makes of it is found later."""
        for works in self._works.values():
            tasks = [*works.steps.values(), *([works.sweep] if works.sweep else [])]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.desks.close()

    async def _read(self, name: AccountName) -> Account | None:
        try:
            wire = await self.kube.get(ACCOUNTS, name.namespace, name.name)
        except NotFoundError:
            return None
        return _account(wire)

    async def _name_cluster(self) -> Hold | None:
        """Learn by which name this installation marks its sandboxes; return why it cannot."""
        if self.driver.tagger.cluster:
            return None
        try:
            found = await self.kube.get(NAMESPACES, None, CLUSTER_NAMESPACE)
        except ForbiddenError:
            message = f"the operator may not read the namespace {CLUSTER_NAMESPACE}; set EXECPOOL_CLUSTER_ID instead"
            return Hold(Reason.FORBIDDEN, message, LONGEST_REST)
        self.driver.tagger.cluster = f"{found['metadata']['uid']}.{self.control_namespace}"
        return None

    async def _forget(self, name: AccountName) -> None:
        await self.desks.forget(name)
        self.sweeper.forget(name)
        self.equipper.forget(name)
        self._works.pop(name, None)

    def _reap(self, desk: Desk, works: _Works) -> None:
        """Take in what has ended. Raises FencedError, and whatever nobody expects."""
        now = self.driver.clock()
        for uid, task in list(works.steps.items()):
            if not task.done():
                continue
            del works.steps[uid]
            error = task.exception()
            if isinstance(error, KubeError) and not isinstance(error, FencedError):
                works.resting[uid] = (now + KUBE_RETRY_SECONDS, "")
            elif error is not None:
                raise error
            elif isinstance(ended := task.result(), Later):
                known = desk.book.records.get(uid)
                rest = min(ended.seconds, LONGEST_STEP_REST)
                works.resting[uid] = (now + rest, known.resource_version if known else "")
            elif isinstance(ended, Over):
                works.over[uid] = ended.record
        if works.sweep is not None and works.sweep.done():
            error, works.sweep = works.sweep.exception(), None
            if isinstance(error, E2BError) or (isinstance(error, KubeError) and not isinstance(error, FencedError)):
                log.warning("sweep failed", extra={"account": desk.name.key, "error": str(error)})
            elif error is not None:
                raise error

    def _count_money(self, desk: Desk, account: Account) -> None:
        now = self.driver.clock()
        limit = account.spec.daily_spend_micro_usd if account.spec else None
        desk.limits.spend = window(limit, account.status.spend, desk.book.grants(desk.limits.price_of), now)

    def _start_steps(self, desk: Desk, works: _Works) -> float:
        """Start the next step of each record that has one now; return when the next is due."""
        now = self.driver.clock()
        rests = [LONGEST_REST]
        # Who has waited longest is first: a creation that is due goes to the first one that asks for it.
        for uid, record in sorted(desk.book.records.items(), key=lambda known: known[1].spec.attempt_at):
            if uid in works.steps or uid in works.over:
                continue
            until, version = works.resting.get(uid, (0.0, ""))
            rest = until - now if version in ("", record.resource_version) else 0.0
            rest = max(rest, self.driver.rests(desk, record))
            if rest > 0:
                rests.append(rest)
                continue
            works.resting.pop(uid, None)
            works.steps[uid] = asyncio.create_task(self._step(desk, works, record), name=f"sandbox {record.key}")
            works.steps[uid].add_done_callback(lambda _task: self.on_progress(desk.name))
        for uid in works.resting.keys() - desk.book.records.keys():
            del works.resting[uid]
        return min(rests)

    async def _step(self, desk: Desk, works: _Works, record: Record) -> Later | Over | Vanished:
        async with works.gate:
            return await self.driver.drive(desk, record)

    def _start_sweep(self, desk: Desk, works: _Works) -> float:
        rest = self.sweeper.rests(desk.name)
        if rest <= 0 and works.sweep is None and desk.closed is None:
            work = self.sweeper.sweep(desk, self.list_records)
            works.sweep = asyncio.create_task(work, name=f"sweep {desk.name.key}")
            works.sweep.add_done_callback(lambda _task: self.on_progress(desk.name))
        return rest or LONGEST_REST

    async def _tell(self, desk: Desk, works: _Works, account: Account | None) -> float:
        """Write the status where it differs, what ended sandboxes cost first of all; then let their records go."""
        over = list(works.over.values())
        rest = LONGEST_REST
        if account is not None:
            rest = await self._write_status(desk, works, account, over)
        for record in over:
            try:
                await self.driver.writer.release(record)
            except ConflictError:
                continue  # somebody wrote it in between; the next round finds it as it is
            finally:
                works.over.pop(record.uid, None)
            desk.book.forget(record.uid)
            log.info("record released", extra={"record": record.key, "sandbox": record.status.sandbox_id})
        return rest

    async def _write_status(self, desk: Desk, works: _Works, account: Account, over: list[Record]) -> float:
        now = self.driver.clock()
        spend = desk.limits.spend
        for record in over:
            grant = grant_of(record, desk.limits.price_of(record))
            ended = spent_for(grant, now, spend.start) if record.status.sandbox_id else 0
            spend = spend.settle(reserved_for(grant, spend.start), ended)
        hold = desk.closed or desk.hold_of_breaker()
        view = AccountView(
            generation=account.generation,
            ours=desk.book.sandboxes(),
            foreign=desk.foreign,
            breaker=desk.state(),
            learned=LearnedLimits(
                creates_per_minute=desk.limits.rate.per_minute, sandboxes=desk.limits.number.sandboxes
            ),
            spend=spend,
            reason=hold.reason if hold else None,
            message=hold.message if hold else "",
        )
        status = summarize_account(account.status, view, format_seconds(now))
        if status == account.status:
            return LONGEST_REST
        waited = now - works.status_written
        if not over and waited < STATUS_INTERVAL and figures_differ_only(account.status, status):
            return STATUS_INTERVAL - waited
        # A merge patch keeps what it does not name: limits that are no longer learned must be named to go.
        learned = {"learnedLimits": view.learned.model_dump(by_alias=True)}
        body = {"metadata": {"resourceVersion": account.resource_version}, "status": status.wire() | learned}
        name = desk.name
        await self.kube.patch(ACCOUNTS, name.namespace, name.name, body, subresource="status")
        works.status_written = now
        return LONGEST_REST


def _account(wire: Object) -> Account:
    metadata, spec, fault = wire["metadata"], None, None
    try:
        spec = E2BAccountSpec.read(wire["spec"])
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        fault = Hold(Reason.INVALID_SPEC, f"spec.{where}: {first['msg']}"[:1024], LONGEST_REST)
    status = E2BAccountStatus.read(wire.get("status") or {})
    return Account(metadata["generation"], metadata["resourceVersion"], spec, status, fault)
