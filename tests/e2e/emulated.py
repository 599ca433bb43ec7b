"""The emulator of the cluster as stories see it: its account, and its ledger, which is the truth about sandboxes."""

import base64
import json
import time
from dataclasses import dataclass
from typing import Any

from tests.e2e.story import SYSTEM, Installed, Story, eventually

from execpool.api.e2b import SECRET_KEY, SECRET_TYPE
from execpool.cli.accounts import EMULATOR, LEDGER
from execpool.emulator.ledger import Entry, Event, History, Life
from execpool.providers.e2b.tags import POOL

URL = "http://execpool-emulator.execpool-system:8080"
ACCOUNT = "e2e"


@dataclass(frozen=True)
class Emulator:
    """The emulator, and the account at it that stories share."""

    installed: Installed

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return self.installed.cluster.kubectl("--namespace", SYSTEM, *arguments, stdin=stdin)

    def inside(self, *command: str) -> str:
        """Run a command in the emulator's container."""
        return self.kubectl("exec", f"deployment/{EMULATOR}", "--", *command)

    def history(self) -> History:
        return History(map(Entry.read, self.inside("cat", LEDGER).splitlines()))

    def key(self) -> str:
        """Return the key that it accepts."""
        secret = json.loads(self.kubectl("get", "secret", EMULATOR, "--output", "json"))
        return base64.b64decode(secret["data"][SECRET_KEY]).decode()

    def put_account(self, name: str = ACCOUNT, secret: str = EMULATOR, allowed: tuple[str, ...] = ()) -> None:
        spec = {"credentialsSecret": secret, "apiUrl": URL, "plan": "Hobby", "allowedNamespaces": list(allowed)}
        self._apply(
            {"apiVersion": "execpool.dev/v1alpha1", "kind": "E2BAccount", "metadata": {"name": name}, "spec": spec}
        )

    def put_secret(self, name: str, key: str) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": SECRET_TYPE}
        self._apply({**secret, "stringData": {SECRET_KEY: key}})

    def account_status(self, name: str) -> dict[str, Any]:
        account = json.loads(self.kubectl("get", "e2baccount", name, "--output", "json"))
        return dict(account.get("status") or {})

    def account_condition(self, name: str, type_: str) -> dict[str, Any]:
        conditions = self.account_status(name).get("conditions", [])
        return next((one for one in conditions if one["type"] == type_), {})

    def lives(self, pool_uid: str) -> dict[str, Life]:
        """Return what the ledger says of the sandboxes of a pool, by their ids."""
        lives = self.history().lives.items()
        return {sandbox: life for sandbox, life in lives if life.created.metadata.get(POOL) == pool_uid}

    def alive(self, pool_uid: str) -> set[str]:
        return {sandbox for sandbox, life in self.lives(pool_uid).items() if life.ended is None}

    def executions(self, pool_uid: str) -> list[str]:
        """Return the sandboxes of a pool in which an execution started, once for each."""
        lives = self.lives(pool_uid)
        return [one.sandbox_id for one in self.history().of(Event.EXECUTION_STARTED) if one.sandbox_id in lives]

    def _apply(self, manifest: dict[str, Any]) -> None:
        arguments = ("apply", "--server-side", "--force-conflicts", "--filename", "-")
        self.kubectl(*arguments, stdin=json.dumps(manifest))


@dataclass(frozen=True)
class Cloud:
    """One namespace with a pool whose only tier is of kind e2b."""

    story: Story
    emulator: Emulator

    def put_pool(self, replicas: int = 3, account: str = ACCOUNT, most: int = 6) -> None:
        tier = {"accountRef": {"name": account, "namespace": SYSTEM}, "max": most, "idleSeconds": 600}
        self.story.apply_pool(replicas=replicas, scaledTier="e2b", tiers=[{"name": "e2b", "e2b": tier}])

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the records of the namespace by name."""
        return {one["metadata"]["name"]: one for one in self.story.json("e2bsandboxes")["items"]}

    def ready(self) -> dict[str, str]:
        """Return the ids of sandboxes that are ready and owned by nobody, by the names of their records."""
        records = self.records().items()
        return {
            name: one["status"]["sandboxID"] for name, one in records if one.get("status", {}).get("phase") == "Ready"
        }

    def warm(self, number: int) -> dict[str, str]:
        """Wait until exactly so many sandboxes are warm, and return them."""
        found: dict[str, str] = {}

        def is_warm() -> bool:
            nonlocal found
            found = self.ready()
            return len(found) == number and self.is_filled()

        eventually(is_warm, f"{number} warm sandboxes")
        return found

    def is_filled(self) -> bool:
        return self.story.condition("WarmPoolFilled").get("status") == "True"

    def uid(self) -> str:
        return str(self.story.json("executionpool", "pool")["metadata"]["uid"])


def until(moment: float) -> None:
    """Wait for a moment: the one way to see that nothing happens before it."""
    time.sleep(max(moment - time.time(), 0))
