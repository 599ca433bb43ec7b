"""What a pod, and what its executor said, mean: from a Kubernetes object and a `/state` to an Executor. Pure.

The pod tells whether it starts and why not; the executor tells whether somebody holds it. What an executor says comes
from beside untrusted code: whatever does not make sense is as if it had said nothing.
"""

from datetime import datetime

from execpool.api import names
from execpool.api.names import Reason
from execpool.core.model import Claim, Executor, Phase
from execpool.kube.client import Object
from execpool.protocol import Egress, ExecutorPhase, State, WireError

_IMAGE_TROUBLES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
_CRASH_TROUBLES = frozenset(
    {"CrashLoopBackOff", "RunContainerError", "CreateContainerConfigError", "CreateContainerError"}
)


def translate(pod: Object, state: State | None) -> Executor:
    """Return what a pod, and what its executor said, mean; pure."""
    metadata = pod["metadata"]
    if state is not None and state.pod_uid != metadata["uid"]:
        state = None  # the address has been given to another pod meanwhile
    trouble, message = _trouble(pod)
    phase = phase_of(pod, state)
    return Executor(
        name=metadata["name"],
        uid=metadata["uid"],
        tier=metadata["labels"].get(names.LABEL_TIER, ""),
        phase=phase,
        template_hash=metadata.get("annotations", {}).get(names.ANNOTATION_TEMPLATE_HASH, ""),
        created_at=datetime.fromisoformat(metadata["creationTimestamp"]).timestamp(),
        claim=_claim(state) if phase is Phase.CLAIMED else None,
        trouble=trouble if phase is Phase.STARTING else None,
        message=message,
        egress=_egress(state),
    )


def phase_of(pod: Object, state: State | None) -> Phase:
    """Derive the phase of an executor.

    | pod                          | /state           | phase       |
    |------------------------------|------------------|-------------|
    | being deleted                | any              | Terminating |
    | Succeeded or Failed          | any              | Ended       |
    | server exited 0              | any              | Exiting     |
    | not started yet, or crashing | none             | Starting    |
    | started                      | none             | Unreachable |
    | ready / not ready            | Warm             | Ready / Starting |
    | any                          | Claimed          | Claimed     |
    | any                          | Retired          | Terminating |
    """
    if pod["metadata"].get("deletionTimestamp"):
        return Phase.TERMINATING
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return Phase.ENDED
    if _container(pod, "server").get("state", {}).get("terminated", {}).get("exitCode") == 0:
        return Phase.EXITING
    if state is None or not _makes_sense(state):
        return Phase.UNREACHABLE if has_served(pod) else Phase.STARTING
    if state.phase == ExecutorPhase.CLAIMED:
        return Phase.CLAIMED
    if state.phase == ExecutorPhase.RETIRED:
        return Phase.TERMINATING
    return Phase.READY if state.phase == ExecutorPhase.WARM and _is_ready(pod) else Phase.STARTING


def _makes_sense(state: State) -> bool:
    return isinstance(state.phase, str) and state.phase in set(ExecutorPhase)


def _claim(state: State | None) -> Claim | None:
    try:
        held = state.held_by() if state else None
        if held is None:
            return None
        return Claim(
            str(held.principal), int(held.epoch), float(held.held_seconds), float(held.idle_seconds), int(held.running)
        )
    except (WireError, TypeError, ValueError, OverflowError):
        return None  # a claim that cannot be read is left alone: nothing idle is known of it


def _egress(state: State | None) -> Egress:
    said = state.egress if state is not None else None
    return Egress(said) if isinstance(said, str) and said in set(Egress) else Egress.UNKNOWN


def _container(pod: Object, name: str) -> Object:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return next((status for status in statuses if status["name"] == name), {})


def may_answer(pod: Object) -> bool:
    running = pod.get("status", {}).get("phase") == "Running" and pod["status"].get("podIP")
    return bool(running) and "running" in _container(pod, "server").get("state", {})


def has_served(pod: Object) -> bool:
    """True while the server is past its start-up probe: then it may be claimed.

    One that crashes is not: if it was claimed before, its marker makes the next start exit for good.
    """
    return bool(_container(pod, "server").get("started"))


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _trouble(pod: Object) -> tuple[Reason | None, str]:
    """Return why a pod does not start, as far as Kubernetes knows."""
    for condition in pod.get("status", {}).get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return Reason.UNSCHEDULABLE, condition.get("message", "")
    for name in ("server", "runner"):
        waiting = _container(pod, name).get("state", {}).get("waiting", {})
        reason = waiting.get("reason", "")
        if reason in _IMAGE_TROUBLES:
            return Reason.IMAGE_UNAVAILABLE, f"{reason}: {waiting.get('message', '')}"[:500]
        if reason in _CRASH_TROUBLES:
            return Reason.CRASHING, f"container {name}: {reason}: {waiting.get('message', '')}"[:500]
    return None, ""
