"""All metrics. Labels come from closed enums, or name a pool or tier; never an id, a user or an exception's text.

`core` counts nothing: effects count their outcomes here.
"""

from prometheus_client import Counter, Gauge, Histogram

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

POOL = ("namespace", "pool")

# Operator
EXECUTORS = Gauge("execpool_executors", "Executors by state.", [*POOL, "tier", "state"])
DESIRED = Gauge("execpool_desired_executors", "Warm executors wanted.", [*POOL, "tier"])
ACTIONS = Counter("execpool_actions", "Writes decided by the planner, by outcome.", ["action", "outcome"])
RECONCILES = Counter("execpool_reconciles", "Reconciles by outcome.", ["outcome"])
RECONCILE_SECONDS = Histogram("execpool_reconcile_seconds", "Duration of a reconcile.", buckets=SECONDS)
LEADER = Gauge("execpool_leader", "1 while this operator holds the Lease.")
POOLS_FOUND_LATE = Counter("execpool_pools_found_late", "Pools found by listing that no watch event had told of.")

E2B_REQUESTS = Counter("execpool_e2b_requests", "Calls to E2B, by what came of them.", ["call", "outcome"])

# Both
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
WAIT_SECONDS = Histogram("execpool_wait_seconds", "Wait for an executor.", POOL, buckets=SECONDS)
RUN_SECONDS = Histogram("execpool_run_seconds", "Duration of a run.", POOL, buckets=SECONDS)
OVERHEAD_SECONDS = Histogram(
    "execpool_gateway_overhead_seconds", "Time in the gateway beside waiting and running.", POOL, buckets=SECONDS
)


def count_request(method: str, resource: str, status: int) -> None:
    """Count one request to the Kubernetes API; status 0 means that no answer came."""
    API_REQUESTS.labels(method, resource, str(status)).inc()
