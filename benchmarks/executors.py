"""An executor, spoken to without a gateway: what a caller could have at the least, and so the gateway's peer.

The claim is the protocol's (`execpool.protocol`), with the secret derived from the root key as the gateway derives it.
"""

import secrets
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from benchmarks.figures import BenchmarkError
from execpool import protocol
from execpool.api import names
from execpool.core.proof import KeyRing
from execpool.kube.client import Object
from execpool.protocol import Challenge, ClaimGrant, ClaimRequest, ExecuteRequest, Proof

CODE = "1+1"
VALUE = "2"


@dataclass(frozen=True)
class Executor:
    """Where an executor is and what proves that it is ours."""

    uid: str
    address: str
    executor_id: str
    secret: str

    @property
    def data_url(self) -> str:
        """Where code goes."""
        return f"http://{self.address}:{protocol.DATA_PORT}/execute"

    def control_url(self, call: str) -> str:
        """Where ownership is settled."""
        return f"http://{self.address}:{protocol.CONTROL_PORT}/{call}"


def executor_of(pod: Object, keys: KeyRing) -> Executor:
    """Return the executor that a ready pod is."""
    labels = pod["metadata"]["labels"]
    executor_id = labels[names.LABEL_EXECUTOR_ID]
    key = keys.named(pod["metadata"]["annotations"][names.ANNOTATION_KEY_ID])
    if key is None:
        raise BenchmarkError(f"{pod['metadata']['name']} was made with a root key that is no longer in force")
    secret = key.claim_secret(labels[names.LABEL_POOL_UID], executor_id)
    return Executor(pod["metadata"]["uid"], pod["status"]["podIP"], executor_id, secret)


async def claim(http: aiohttp.ClientSession, executor: Executor, principal: str) -> ClaimGrant:
    """Make an executor prove itself, then claim it.

    Raises:
        BenchmarkError: it did not, or somebody else has it.
    """
    nonce = secrets.token_hex(16)
    proof = Proof.decode(await _control(http, executor, "challenge", Challenge(nonce, executor.uid).encode()))
    hashed = protocol.secret_hash(executor.secret)
    if not protocol.proof_holds(proof.proof, hashed, nonce, executor.uid, executor.executor_id):
        raise BenchmarkError(f"the executor at {executor.address} could not prove itself")
    return ClaimGrant.decode(await _control(http, executor, "claim", ClaimRequest(executor.secret, principal).encode()))


async def is_warm(http: aiohttp.ClientSession, executor: Executor) -> bool:
    """True while nobody holds it."""
    async with http.get(executor.control_url("state")) as response:
        state: dict[str, Any] = await response.json()
    return bool(state["phase"] == protocol.ExecutorPhase.WARM)


def execute_headers(grant: ClaimGrant) -> dict[str, str]:
    """Return the headers of one execution, which needs a name of its own."""
    return {
        "Content-Type": "application/json",
        protocol.HEADER_TOKEN: grant.token,
        protocol.HEADER_EPOCH: str(grant.epoch),
        protocol.HEADER_EXECUTION: secrets.token_hex(16),
    }


EXECUTE_BODY = orjson.dumps(ExecuteRequest(CODE))


async def execute(http: aiohttp.ClientSession, url: str, grant: ClaimGrant) -> float:
    """Run `1+1`, check the answer, and return how long the run took by the executor's own clock."""
    async with http.post(url, data=EXECUTE_BODY, headers=execute_headers(grant)) as response:
        answer = await response.read()
    if response.status != 200 or not succeeded(answer):
        raise BenchmarkError(f"{url} answered {response.status}: {answer[:200].decode(errors='replace')}")
    return float(orjson.loads(answer.splitlines()[-1])["wall_seconds"])


def succeeded(answer: bytes) -> bool:
    """True when an NDJSON answer of an executor holds the right value and a good end."""
    events = [orjson.loads(line) for line in answer.splitlines() if line]
    values = [event.get("text") for event in events if event["type"] == protocol.EventType.RESULT]
    return values == [VALUE] and events[-1].get("status") == protocol.RunStatus.SUCCEEDED


async def _control(http: aiohttp.ClientSession, executor: Executor, call: str, body: bytes) -> bytes:
    async with http.post(executor.control_url(call), data=body) as response:
        answer = await response.read()
    if response.status != 200:
        raise BenchmarkError(
            f"/{call} at {executor.address} answered {response.status}: {answer[:200].decode(errors='replace')}"
        )
    return answer
