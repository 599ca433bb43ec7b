"""All metrics. Labels come from closed enums, or name a pool or tier; never an id, a user or an exception's text.

`core` counts nothing: effects count their outcomes here.
"""

from prometheus_client import Counter, Gauge, Histogram

from execpool.core.breaker import BreakerState, Seen

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

POOL = ("namespace", "pool")
ACCOUNT = ("namespace", "account")

# Operator
EXECUTORS = Gauge("execpool_executors", "Executors by state.", [*POOL, "tier", "state"])
DESIRED = Gauge("execpool_desired_executors", "Warm executors wanted.", [*POOL, "tier"])
ACTIONS = Counter("execpool_actions", "Writes decided by the planner, by outcome.", ["action", "outcome"])
RECONCILES = Counter("execpool_reconciles", "Reconciles by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram("execpool_reconcile_seconds", "Duration of a reconcile.", buckets=SECONDS)
LEADER = Gauge("execpool_leader", "1 while this operator holds the Lease.")
POOLS_FOUND_LATE = Counter("execpool_pools_found_late", "Pools found by listing that no watch event had told of.")

BUDGET_LIMIT = Gauge("execpool_budget_limit", "Limit of a pool's budget, in what it counts.", [*POOL, "budget"])
BUDGET_REMAINING = Gauge(
    "execpool_budget_remaining", "What could be had of a pool's budget at once, in what it counts.", [*POOL, "budget"]
)
CONDITION = Gauge("execpool_pool_condition", "1 for True, 0 for False, -1 for Unknown.", [*POOL, "condition"])
ACCOUNT_SANDBOXES = Gauge(
    "execpool_account_sandboxes", "Sandboxes of an account, by whose they are.", [*ACCOUNT, "owner"]
)
ACCOUNT_SANDBOXES_LIMIT = Gauge("execpool_account_sandboxes_limit", "Sandboxes that may be ours now.", ACCOUNT)
ACCOUNT_CREATES_LIMIT = Gauge(
    "execpool_account_creates_per_minute_limit", "Creations asked for in a minute at most.", ACCOUNT
)
ACCOUNT_SPEND = Gauge("execpool_account_spend_usd", "Money of the day, spent or reserved.", [*ACCOUNT, "state"])
E2B_REQUESTS = Counter("execpool_e2b_requests", "Calls to E2B, by what came of them.", ["call", "outcome"])

# Both
BREAKER = Gauge(
    "execpool_breaker_state",
    "1 for the state that the breaker of an account is in, by what is asked: Control (sandboxes) or Data (executions).",
    [*ACCOUNT, "plane", "state"],
)
BREAKER_TRANSITIONS = Counter(
    "execpool_breaker_transitions",
    "Changes of a breaker's state, by the state that it came to and what was seen.",
    [*ACCOUNT, "plane", "state", "reason"],
)
API_REQUESTS = Counter("execpool_api_requests", "Requests to the Kubernetes API.", ["method", "resource", "code"])

# Gateway
EXECUTIONS = Counter("execpool_executions", "Executions by outcome.", [*POOL, "tier", "outcome"])
REFUSALS = Counter("execpool_refusals", "Requests refused, by reason.", ["reason"])
WAITING = Gauge("execpool_waiting_executions", "Executions waiting for an executor.", POOL)
RUNNING = Gauge("execpool_running_executions", "Executions running.", POOL)
CLAIMED = Gauge("execpool_claims_held", "Executors held by this gateway.", POOL)
CLAIMS = Counter("execpool_claims", "Claims by outcome.", [*POOL, "tier", "outcome"])
HELD_BACK = Gauge("execpool_held_back_executions", "Waiting executions that a budget or an account holds back.", POOL)
BREAKER_OPEN = Gauge(
    "execpool_gateway_breaker_open",
    "1 while an account's data plane is left alone or probed.",
    ["namespace", "account"],
)
WARM_HITS = Counter(
    "execpool_warm_hits", "Executions that found an executor that was ready before they came.", [*POOL, "tier"]
)
POOL_REFUSALS = Counter("execpool_pool_refusals", "Executions that a pool refused, by reason.", [*POOL, "reason"])
WAIT_SECONDS = Histogram("execpool_wait_seconds", "Wait for an executor.", POOL, buckets=SECONDS)
RUN_SECONDS = Histogram("execpool_run_seconds", "Duration of a run.", POOL, buckets=SECONDS)
OVERHEAD_SECONDS = Histogram(
    "execpool_gateway_overhead_seconds", "Time in the gateway beside waiting and running.", POOL, buckets=SECONDS
)


def count_request(method: str, resource: str, status: int) -> None:
    """Count one request to the Kubernetes API; status 0 means that no answer came."""
    API_REQUESTS.labels(method, resource, str(status)).inc()


def tell_breaker(account: tuple[str, str], plane: str, before: BreakerState, now: BreakerState, seen: Seen) -> None:
    """Note the state that the breaker of an account (namespace and name) is in, and a change of it."""
    for state in BreakerState:
        BREAKER.labels(*account, plane, state).set(state is now)
    if before is not now:
        BREAKER_TRANSITIONS.labels(*account, plane, now, seen).inc()
