"""From a snapshot and its plan to the status that users, `kubectl wait`, Flux, Argo and autoscalers read. Pure.

Ready and Reconciling, for generation g (kstatus reads Reconciling first, then Ready):

    | serves now | g applied before | g applied now | Ready            | Reconciling |
    |------------|------------------|---------------|------------------|-------------|
    | no         | no               | no            | as it was, or Unknown at first | True |
    | yes        | no               | no            | True             | True        |
    | any        | no               | yes           | True             | -           |
    | yes        | yes              | any           | True             | -           |
    | no         | yes              | any           | True while executors are on their way, else False | - |

*serves*: some executor is ready or claimed, or the pool wants none. *applied*: every tier that wants executors has one
of the current template, and no ready one of an older template is left. Fullness is WarmPoolFilled, never Ready: an
autoscaler that writes `replicas` must not make a GitOps tool wait. Stalled is for what needs a person.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from execpool.api.names import LABEL_POOL, LABEL_TIER, ConditionType, Reason
from execpool.api.v1alpha1 import Condition, ExecutionPoolStatus, Network, Tier, TierStatus
from execpool.core.figures import figures
from execpool.core.in_use import in_use
from execpool.core.isolation import isolation_of
from execpool.core.model import Executor, Finding, Phase, Pool, Snapshot
from execpool.core.planning import desired_warm, is_outdated
from execpool.protocol import Egress

STALLING = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.RUNTIME_CLASS_NOT_FOUND,
        Reason.FORBIDDEN,
        Reason.ACCOUNT_NOT_FOUND,
        Reason.NOT_ALLOWED,
        Reason.ENDPOINT_NOT_ALLOWED,
        Reason.CREDENTIAL_INVALID,
        Reason.TEMPLATE_REFUSED,
    }
)
"""Reasons that waiting does not mend."""
Verdict = tuple[str, str, str, str]
"""type, status, reason, message."""


def summarize(snapshot: Snapshot, findings: Sequence[Finding], timestamp: str) -> ExecutionPoolStatus:
    """Return the whole status of a pool; `timestamp` (RFC 3339) marks the conditions that change."""
    pool = snapshot.pool
    tiers = [_tier_status(snapshot, tier, findings) for tier in pool.spec.tiers]
    scaled = next(status for status, tier in zip(tiers, pool.spec.tiers, strict=True) if pool.spec.is_scaled(tier))
    verdicts = [
        *_ready(snapshot, findings),
        *_stalled(findings),
        _filled(tiers, findings),
        _tiers_available(snapshot, findings),
        _budget_available(snapshot, findings),
        in_use(snapshot),
        _isolation(snapshot),
    ]
    status = ExecutionPoolStatus(
        observed_generation=pool.generation,
        conditions=_conditions(pool, verdicts, timestamp),
        replicas=scaled.ready + scaled.starting,
        ready_replicas=scaled.ready,
        desired_replicas=scaled.desired,
        selector=f"{LABEL_POOL}={pool.name},{LABEL_TIER}={scaled.name}",
        warm=f"{sum(tier.ready for tier in tiers)}/{sum(tier.desired for tier in tiers)}",
        claimed=sum(tier.claimed for tier in tiers),
        tiers=tiers,
    )
    return status.model_copy(update=figures(snapshot, status))


def acknowledge(pool: Pool, timestamp: str) -> ExecutionPoolStatus:
    """Return the status of the first visit, written before any slow call: an empty one reads as finished to kstatus."""
    verdicts = [
        (ConditionType.READY, "Unknown", Reason.INITIALIZING, "the operator has seen the pool"),
        (ConditionType.RECONCILING, "True", Reason.APPLYING, f"generation {pool.generation} is being applied"),
    ]
    return ExecutionPoolStatus(
        observed_generation=pool.generation,
        conditions=_conditions(pool, verdicts, timestamp),
        selector=f"{LABEL_POOL}={pool.name}",
    )


def stalled_by(pool: Pool, finding: Finding, timestamp: str) -> ExecutionPoolStatus:
    """Return the status of a pool that cannot be planned at all; everything else stays as it was."""
    kept = [
        (condition.type, condition.status, condition.reason, condition.message)
        for condition in pool.status.conditions
        if condition.type not in (ConditionType.STALLED, ConditionType.RECONCILING, ConditionType.READY)
    ]
    verdicts = [(ConditionType.READY, "False", finding.reason, finding.message), *_stalled([finding]), *kept]
    changed = {"observed_generation": pool.generation, "conditions": _conditions(pool, verdicts, timestamp)}
    return pool.status.model_copy(update=changed)


def _ready(snapshot: Snapshot, findings: Sequence[Finding]) -> list[Verdict]:
    pool = snapshot.pool
    if pool.deleted_at is not None:
        drained = next((finding.message for finding in findings if finding.reason is Reason.DRAINING), "draining")
        return [(ConditionType.READY, "False", Reason.DELETING, drained)]
    if pool.spec.suspend:
        return [(ConditionType.READY, "True", Reason.SUSPENDED, "suspended: new executions are refused")]
    was = condition(pool.status, ConditionType.READY)
    applied_before = (
        pool.status.observed_generation == pool.generation
        and was is not None
        and condition(pool.status, ConditionType.RECONCILING) is None
    )
    serving = [member for member in snapshot.executors if member.phase in (Phase.READY, Phase.CLAIMED)]
    wants_none = all(desired_warm(snapshot, tier) == 0 for tier in pool.spec.tiers)
    applied = applied_before or _is_applied(snapshot)
    verdicts: list[Verdict] = []
    if serving or wants_none:
        verdicts.append((ConditionType.READY, "True", Reason.SERVING, _census(snapshot.executors)))
    elif applied_before and any(member.phase is Phase.STARTING and not member.trouble for member in snapshot.executors):
        verdicts.append((ConditionType.READY, "True", Reason.AWAITING_EXECUTORS, _census(snapshot.executors)))
    elif applied_before or (was is not None and was.status == "False"):
        verdicts.append(
            (
                ConditionType.READY,
                "False",
                Reason.NO_TIER_SERVES,
                _first_message(findings) or _census(snapshot.executors),
            )
        )
    else:
        waiting_for = _first_message(findings) or _census(snapshot.executors)
        verdicts.append((ConditionType.READY, "Unknown", Reason.AWAITING_EXECUTORS, waiting_for))
    if not applied:
        verdicts.append(
            (ConditionType.RECONCILING, "True", Reason.APPLYING, f"generation {pool.generation} is being applied")
        )
    return verdicts


def _is_applied(snapshot: Snapshot) -> bool:
    return all(_tier_is_applied(snapshot, tier) for tier in snapshot.pool.spec.tiers)


def _tier_is_applied(snapshot: Snapshot, tier: Tier) -> bool:
    members = snapshot.of(tier.name)
    if any(member.unclaimed and is_outdated(snapshot, member) for member in members):
        return False
    current = [
        member
        for member in members
        if member.phase in (Phase.READY, Phase.CLAIMED) and not is_outdated(snapshot, member)
    ]
    return bool(current) or desired_warm(snapshot, tier) == 0


def _stalled(findings: Iterable[Finding]) -> list[Verdict]:
    for finding in findings:
        if finding.reason in STALLING:
            return [(ConditionType.STALLED, "True", finding.reason, finding.message)]
    return []


def _filled(tiers: Sequence[TierStatus], findings: Sequence[Finding]) -> Verdict:
    short = [tier for tier in tiers if tier.ready < tier.desired]
    if not short:
        return (
            ConditionType.WARM_POOL_FILLED,
            "True",
            Reason.FILLED,
            f"{sum(tier.ready for tier in tiers)} warm executors are ready",
        )
    cause = next((finding for finding in findings if finding.tier in {tier.name for tier in short}), None)
    numbers = "; ".join(
        f"tier {tier.name}: {tier.ready} of {tier.desired} ready, {tier.starting} starting" for tier in short
    )
    message = f"{numbers}; {cause.message}" if cause else numbers
    return (ConditionType.WARM_POOL_FILLED, "False", cause.reason if cause else Reason.FILLING, message)


def _tiers_available(snapshot: Snapshot, findings: Sequence[Finding]) -> Verdict:
    blocked = {finding.tier: finding for finding in findings if finding.reason is not Reason.MAX_REACHED}
    gone = [
        name
        for name in blocked
        if name and not any(member.phase in (Phase.READY, Phase.CLAIMED) for member in snapshot.of(name))
    ]
    if gone:
        message = "; ".join(f"tier {name}: {blocked[name].message}" for name in sorted(gone))
        return (ConditionType.TIERS_AVAILABLE, "False", blocked[min(gone)].reason, message)
    return (ConditionType.TIERS_AVAILABLE, "True", Reason.AVAILABLE, "every tier can serve")


def _budget_available(snapshot: Snapshot, findings: Sequence[Finding]) -> Verdict:
    """Say which budget holds something back: the pool's own, or the account's money above them."""
    said = [use.exhausted for use in snapshot.budgets if use.exhausted]
    said = said or [finding.message for finding in findings if finding.reason is Reason.BUDGET_EXHAUSTED]
    if said:
        return (ConditionType.BUDGET_AVAILABLE, "False", Reason.BUDGET_EXHAUSTED, "; ".join(said))
    count = len(snapshot.pool.spec.budgets)
    message = f"{count} budgets, none of which holds anything back" if count else "the pool declares no budgets"
    return (ConditionType.BUDGET_AVAILABLE, "True", Reason.AVAILABLE, message)


def _isolation(snapshot: Snapshot) -> Verdict:
    """Report what is weaker than it looks: reported by executors about the network, known of user namespaces."""
    isolated = [
        tier.name for tier in snapshot.pool.spec.tiers if tier.pods is not None and tier.pods.network is Network.NONE
    ]
    has_pods = any(tier.pods is not None for tier in snapshot.pool.spec.tiers)
    heard = [member for member in snapshot.executors if member.egress is not Egress.UNKNOWN]
    weaker = []
    reached = sorted({member.tier for member in heard if member.egress is Egress.OPEN and member.tier in isolated})
    if reached:
        weaker.append(
            f"network policies are not enforced (tiers {', '.join(reached)}); only the executor's own socket filter keeps code off the network"
        )
    if has_pods and not snapshot.user_namespaces:
        weaker.append("executor pods have no user namespace of their own")
    emulated = sorted({member.tier for member in snapshot.executors if member.emulated})
    if emulated:
        weaker.append(f"sandboxes of tiers {', '.join(emulated)} are not E2B's own, and no micro VMs for all we know")
    if weaker:
        return (ConditionType.ISOLATION_VERIFIED, "False", Reason.WEAKER_THAN_DECLARED, "; ".join(weaker))
    if not has_pods:
        return (ConditionType.ISOLATION_VERIFIED, "True", Reason.VERIFIED, "every executor is a sandbox of E2B's own")
    if not heard:
        return (ConditionType.ISOLATION_VERIFIED, "Unknown", Reason.NOT_VERIFIED_YET, "no executor has reported yet")
    return (
        ConditionType.ISOLATION_VERIFIED,
        "True",
        Reason.VERIFIED,
        f"{len(heard)} executors found the cluster out of reach",
    )


def _tier_status(snapshot: Snapshot, tier: Tier, findings: Sequence[Finding]) -> TierStatus:
    count = Counter(member.phase for member in snapshot.of(tier.name))
    return TierStatus(
        name=tier.name,
        kind=tier.kind,
        isolation=isolation_of(tier, user_namespaces=snapshot.user_namespaces),
        desired=desired_warm(snapshot, tier),
        ready=count[Phase.READY],
        starting=count[Phase.STARTING],
        claimed=count[Phase.CLAIMED],
        terminating=count[Phase.TERMINATING] + count[Phase.EXITING],
        breaker=backend.breaker if (backend := snapshot.backends.get(tier.name)) is not None else "",
        message=_first_message(finding for finding in findings if finding.tier == tier.name),
    )


def _conditions(pool: Pool, verdicts: Iterable[Verdict], timestamp: str) -> list[Condition]:
    return [_condition(pool, verdict, timestamp) for verdict in verdicts]


def _condition(pool: Pool, verdict: Verdict, timestamp: str) -> Condition:
    type_, status, reason, message = verdict
    was = condition(pool.status, type_)
    since = was.last_transition_time if was is not None and was.status == status else timestamp
    return Condition(
        type=type_,
        status=status,
        observed_generation=pool.generation,
        last_transition_time=since,
        reason=reason,
        message=message[:1024],
    )


def condition(status: ExecutionPoolStatus, type_: str) -> Condition | None:
    """Return a condition of a status, or None while it is absent."""
    return next((item for item in status.conditions if item.type == type_), None)


def _first_message(findings: Iterable[Finding]) -> str:
    return next((finding.message[:1024] for finding in findings), "")


def _census(executors: Sequence[Executor]) -> str:
    count = Counter(member.phase for member in executors)
    return f"{count[Phase.READY]} ready, {count[Phase.CLAIMED]} claimed, {count[Phase.STARTING]} starting"
