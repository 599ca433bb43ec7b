"""Names that users, manifests and dashboards see: group, labels, annotations, conditions, reasons.

One word per thing (DESIGN section 2). A name here is a promise: renaming one breaks somebody's query or manifest.
"""

from enum import StrEnum

GROUP = "execpool.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

FINALIZER = f"{GROUP}/executors"
MANAGED_BY = "execpool"

LABEL_POOL = f"{GROUP}/pool"
LABEL_POOL_UID = f"{GROUP}/pool-uid"
LABEL_TIER = f"{GROUP}/tier"
FINALIZER_SANDBOX = f"{GROUP}/sandbox"
"""On a record: it stays until its sandbox is known to be gone."""

LABEL_EXECUTOR_ID = f"{GROUP}/executor-id"
LABEL_COMPONENT = f"{GROUP}/component"

ANNOTATION_TEMPLATE_HASH = f"{GROUP}/template-hash"
ANNOTATION_KEY_ID = f"{GROUP}/key-id"
ANNOTATION_DEMAND = f"{GROUP}/demand"
ANNOTATION_ISOLATION = f"{GROUP}/isolation"
"""On an executor's pod, by its node: the rank of what it really is, where that is below what the pod asks for."""
ANNOTATION_USE = f"{GROUP}/use"
"""On a gateway's Lease, beside its demand: figures of the last minute, which wake nobody."""
ANNOTATION_EPOCH = f"{GROUP}/operator-epoch"

KEY_PREFIX = "ep_"
"""Start of every execution key's secret, so that secret scanners and people recognise one."""


class Isolation(StrEnum):
    """How far an executor is from its neighbours; members are in rising order (DESIGN rule 9)."""

    INTERPRETER = "Interpreter"
    CONTAINER = "Container"
    USER_NAMESPACE = "UserNamespace"
    SANDBOXED = "Sandboxed"
    MICRO_VM = "MicroVM"


class ConditionType(StrEnum):
    """Conditions of an ExecutionPool. Reconciling and Stalled are present only while true (kstatus)."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    WARM_POOL_FILLED = "WarmPoolFilled"
    TIERS_AVAILABLE = "TiersAvailable"
    BUDGET_AVAILABLE = "BudgetAvailable"
    POOL_IN_USE = "PoolInUse"
    ISOLATION_VERIFIED = "IsolationVerified"


class Reason(StrEnum):
    """Why a pool is as it is: reason of conditions, findings and events. A closed list, documented by its comments."""

    # Ready and Reconciling
    INITIALIZING = "Initializing"
    SERVING = "Serving"
    AWAITING_EXECUTORS = "AwaitingExecutors"
    NO_TIER_SERVES = "NoTierServes"
    APPLYING = "Applying"
    SUSPENDED = "Suspended"
    DELETING = "Deleting"
    DRAINING = "Draining"
    # Stalled: a person is needed
    INVALID_SPEC = "InvalidSpec"
    RUNTIME_CLASS_NOT_FOUND = "RuntimeClassNotFound"
    FORBIDDEN = "Forbidden"
    # WarmPoolFilled
    FILLED = "Filled"
    FILLING = "Filling"
    MAX_REACHED = "MaxReached"
    QUOTA_EXCEEDED = "QuotaExceeded"
    CREATE_FAILED = "CreateFailed"
    IMAGE_UNAVAILABLE = "ImageUnavailable"
    UNSCHEDULABLE = "Unschedulable"
    CRASHING = "Crashing"
    START_TIMED_OUT = "StartTimedOut"
    UNREACHABLE = "Unreachable"
    WRITE_FAILED = "WriteFailed"
    # of an account: why no sandbox is asked for, and why a pool's tier has none
    ACCOUNT_NOT_FOUND = "AccountNotFound"
    ACCOUNT_AWAITED = "AccountAwaited"
    """The operator has just started and has not looked at the account yet."""
    NOT_ALLOWED = "NotAllowed"
    ENDPOINT_NOT_ALLOWED = "EndpointNotAllowed"
    CREDENTIAL_INVALID = "CredentialInvalid"
    BREAKER_OPEN = "BreakerOpen"
    ACCOUNT_FULL = "AccountFull"
    RATE_LIMITED = "RateLimited"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    TEMPLATE_REFUSED = "TemplateRefused"
    OUTCOME_UNKNOWN = "OutcomeUnknown"
    """A sandbox was asked for and no answer came: it is looked for."""
    # TiersAvailable
    AVAILABLE = "Available"
    # PoolInUse
    IN_USE = "InUse"
    NO_DEMAND = "NoDemand"
    BYPASSED = "Bypassed"
    """Others use the account while nobody uses the pool: something goes around it."""
    # IsolationVerified
    VERIFIED = "Verified"
    NOT_VERIFIED_YET = "NotVerifiedYet"
    WEAKER_THAN_DECLARED = "WeakerThanDeclared"
    # events and retirements
    OUTDATED = "Outdated"
    OVER_AGE = "OverAge"
    SURPLUS = "Surplus"
    RECLAIMED_FOR_WAITERS = "ReclaimedForWaiters"
    ENDED = "Ended"
    STRAY = "Stray"


class Refusal(StrEnum):
    """Why an execution was not run: the `reason` of a problem answer, of a metric label and of an audit line."""

    INVALID_REQUEST = "InvalidRequest"
    UNSUPPORTED_OPTION = "UnsupportedOption"
    NOT_SUPPORTED = "NotSupported"
    """No tier of its route runs this code: only Monty ones are left. Nothing of it has happened."""
    UNAUTHENTICATED = "Unauthenticated"
    NOT_ALLOWED = "NotAllowed"
    POOL_NOT_FOUND = "PoolNotFound"
    REQUEST_TOO_LARGE = "RequestTooLarge"
    BUDGET_EXHAUSTED = "BudgetExhausted"
    QUEUE_FULL = "QueueFull"
    WAIT_TOO_LONG = "WaitTooLong"
    POOL_SUSPENDED = "PoolSuspended"
    NO_CAPACITY = "NoCapacity"
    BREAKER_OPEN = "BreakerOpen"
    """The account of every tier that could serve has to be left alone for longer than the execution may wait."""
    CONTROL_PLANE_UNAVAILABLE = "ControlPlaneUnavailable"
    """The API server does not answer, so no sandbox can be claimed; what is held goes on."""
    DRAINING = "Draining"
    DEADLINE_PASSED = "DeadlinePassed"


class Outcome(StrEnum):
    """How an execution ended. Exactly one of these is the answer to every execution that was admitted."""

    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    """The program raised; see `error`."""
    TIMED_OUT = "TimedOut"
    KILLED = "Killed"
    """A limit other than time ended it (memory, output, processes)."""
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"
    """It started, and what became of it cannot be known; it is never run again by us."""
