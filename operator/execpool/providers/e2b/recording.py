"""The moment that matters most: E2B has said which sandbox it made, and only this process knows.

The id goes into the record before anything else is done, whatever has become of the record meanwhile: one that was retired
keeps its phase and gets the id, so that its sandbox is killed by it; where the record is gone, so is the sandbox at once.
"""

import logging
from dataclasses import dataclass

from execpool.api.e2b import SandboxPhase
from execpool.core.proof import KeyRing
from execpool.core.sealing import SandboxAccess, seal
from execpool.core.times import format_time
from execpool.kube.errors import ConflictError, NotFoundError, UnreachableError
from execpool.providers.e2b.addresses import sandbox_url
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.records import Record, RecordWriter
from execpool.providers.e2b.wire import Created

log = logging.getLogger(__name__)

ATTEMPTS = 12
"""Writes that the API server does not answer before the sandbox is left to be found by its tag."""


@dataclass(frozen=True)
class Recorder:
    """Writes down what was created."""

    writer: RecordWriter
    keys: KeyRing

    async def note(self, desk: Desk, record: Record, created: Created, until: float, nonce: bytes) -> Record | None:
        """Write the id of a sandbox into its record.

        Args:
            desk: of the account.
            record: as it was when the sandbox was asked for.
            created: E2B's answer.
            until: the deadline that it was asked for with, at the latest.
            nonce: for sealing its tokens.

        Returns:
            The record as it is now; None when it is gone. Where the sandbox could not be noted, it has been killed.

        Raises:
            KubeError: the API server is away, or refuses the write although nothing has changed.
            E2BError: the sandbox of a record that is gone could not be killed; it is known by its tag.
        """
        current: Record | None = record
        sealed = self._sealed(desk, record, created, nonce)
        unanswered = 0
        while current is not None and current.status.sandbox_id in ("", created.sandbox_id):
            ends = current.slot.phase is SandboxPhase.TERMINATING
            try:
                return await self.writer.write_status(
                    current,
                    phase=SandboxPhase.TERMINATING if ends else SandboxPhase.READY,
                    sandboxID=created.sandbox_id,
                    expiresAt=format_time(until),
                    sealedTokens=sealed,
                    message=None,
                )
            except (ConflictError, NotFoundError):
                found = await self.writer.read(current)
                if found is not None and found.resource_version == current.resource_version:
                    raise  # nobody wrote it: asking again at once would be answered the same
                current = found
            except UnreachableError:
                unanswered += 1
                if unanswered == ATTEMPTS:
                    raise
        log.warning("a sandbox that no record can have is killed", extra={"record": record.key})
        await desk.kill(created.sandbox_id)
        return current

    def _sealed(self, desk: Desk, record: Record, created: Created, nonce: bytes) -> str:
        api_url = desk.limits.spec.api_url if desk.limits.spec is not None else ""
        access = SandboxAccess(
            sandbox_id=created.sandbox_id,
            url=sandbox_url(api_url, created.sandbox_id, created.domain),
            envd_token=created.envd_token,
            traffic_token=created.traffic_token,
        )
        return seal(self.keys.current, record.uid, access, nonce)
