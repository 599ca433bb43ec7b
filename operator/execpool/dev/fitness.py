"""What of a pool cannot be had from processes of this machine. Pure.

`misfits` are refused: what a tier promises and would not keep (DESIGN rule 9). `idle` makes no difference and is told.
`lacks` is what every tier lacks in comparison with pods.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from execpool.api.pods import PodsTier
from execpool.api.v1alpha1 import ExecutionPoolSpec, Network

SCOPES_SINCE = 6
"""Version of Landlock since which signals are kept apart."""

_NO_CONTAINER = (
    "No container: programs run as {whom}, held by Landlock, a filter of system calls and limits. They may read what"
    " Landlock leaves them (/etc, /opt, /proc, /srv, /sys, /usr, and this Python with its libraries), not your home."
)
_NO_MEMORY_LIMIT = (
    "No memory limit of all that an executor runs together, and no limit of processor time: each process of a run has its"
    " share of resources.limits.memory, and may start others."
)


@dataclass(frozen=True)
class Machine:
    """What this machine is.

    Attributes:
        uid: whose processes they are.
        landlock: the kernel's version of it; 0 for none.
        private_places: whether /tmp and /home/user are each executor's own.
    """

    uid: int
    landlock: int
    private_places: bool


def misfits(spec: ExecutionPoolSpec) -> Iterator[str]:
    """Yield what a pool asks for and cannot have here, each with the way out."""
    for number, tier in enumerate(spec.tiers):
        path = f"spec.tiers[{number}]"
        if tier.pods is not None:
            yield from _misfits_of_pods(f"{path}.pods", tier.pods)
        else:
            yield (
                f"{path}.e2b: sandboxes of E2B need an account and an operator in a cluster; leave tier {tier.name} out, or use"
                " `make up`"
            )


def _misfits_of_pods(path: str, pods: PodsTier) -> Iterator[str]:
    if pods.runtime_class_name:
        yield (
            f"{path}.runtimeClassName is {pods.runtime_class_name!r}: processes of this machine have no RuntimeClass, so they"
            " would be isolated less than this asks for; leave it out, or use a cluster"
        )
    if pods.network is Network.EGRESS:
        yield (
            f"{path}.network is 'Egress': no NetworkPolicy stands between programs and this machine's own network, loopback"
            " included; leave it out, or use a cluster"
        )
    if pods.image:
        yield (
            f"{path}.image is {pods.image!r}: programs run in this Python, with what is installed in it; leave it out, or use"
            " a cluster"
        )


def idle(spec: ExecutionPoolSpec) -> Iterator[str]:
    """Yield the fields that make no difference here."""
    for number, tier in enumerate(spec.tiers):
        if tier.pods is None:
            continue
        pods = f"spec.tiers[{number}].pods"
        if tier.pods.pod_template.model_fields_set:
            yield f"{pods}.podTemplate"
        if "cpu" in tier.pods.resources.limits.model_fields_set:
            yield f"{pods}.resources.limits.cpu"
        if tier.pods.resources.requests.model_fields_set:
            yield f"{pods}.resources.requests"


def lacks(machine: Machine) -> Sequence[str]:
    """Return what stands between programs and this machine, and what does not, in whole sentences."""
    whom = "root" if machine.uid == 0 else f"you (uid {machine.uid})"
    sentences = [
        _NO_CONTAINER.format(whom=whom),
        _NO_MEMORY_LIMIT,
        "No NetworkPolicy: the filter of system calls alone keeps programs off the network.",
    ]
    if machine.uid == 0:
        sentences.append(
            "Programs run without capabilities, yet own root's files: another user's account is a better place."
        )
    if not machine.private_places:
        sentences.append(
            "No /tmp and /home/user of their own, and a /dev/shm that all programs share: this kernel, or where Python lies, does"
            " not allow more."
        )
    if machine.landlock < SCOPES_SINCE:
        sentences.append(
            f"Landlock has version {machine.landlock} here; signals of programs are kept apart by it only from {SCOPES_SINCE}"
            " on (Linux 6.12), and by the filter alone before."
        )
    return sentences
