"""The tag that a sandbox carries: which cluster, pool, record and attempt it is for. Pure.

Only what carries our cluster's tag is ever killed by a sweep, and what a list shows is held against the tag here, whatever
filter E2B applied: an account is shared with others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from execpool.core.slots import Sighting
from execpool.providers.e2b.records import Record
from execpool.providers.e2b.wire import Listed

CLUSTER = "execpool-cluster"
POOL = "execpool-pool"
RECORD = "execpool-record"
ATTEMPT = "execpool-attempt"
EPOCH = "execpool-epoch"


@dataclass
class Tagger:
    """Makes tags.

    Attributes:
        cluster: name of this installation, which no other that may use the account has; empty until it is known.
        epoch: of the Lease under which we act, for people who read E2B's console.
    """

    cluster: str
    epoch: int = 0

    def tag(self, record: Record) -> Mapping[str, str]:
        """Return the tag of an attempt."""
        return {
            **self.tag_of_record(record),
            POOL: record.pool_uid,
            ATTEMPT: str(record.spec.attempt),
            EPOCH: str(self.epoch),
        }

    def tag_of_record(self, record: Record) -> Mapping[str, str]:
        """Return what all attempts of a record have in common."""
        return {CLUSTER: self.cluster, RECORD: record.uid}

    def is_ours(self, listed: Listed) -> bool:
        """True for a sandbox of this installation."""
        return listed.tag.get(CLUSTER) == self.cluster and bool(listed.tag.get(RECORD))


def sightings(listed: Iterable[Listed]) -> tuple[Sighting, ...]:
    """Return sandboxes as the slot protocol has them."""
    return tuple(
        Sighting(one.sandbox_id, one.tag.get(RECORD, ""), _attempt(one.tag.get(ATTEMPT, "")), one.started_at)
        for one in listed
    )


def _attempt(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
