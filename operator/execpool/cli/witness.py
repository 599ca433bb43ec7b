"""Looks at a pool's executors while a workload runs: pods and records from the API server, the ledger in the emulator's pod.

It only reads. An executor that has been seen is remembered, since one that has been idle may be gone at the end.
"""

import json
import re
from contextlib import suppress

from execpool.cli.accounts import EMULATOR, LEDGER, NAMESPACE, Account
from execpool.cli.doors import Door, UpError
from execpool.cli.workload_facts import Executor, Facts, Ledger, combine, read_executors

LINES = 5000
"""Lines of the ledger that are looked at; a workload makes some dozens."""
_OPERATOR = "execpool-operator"
_REFUSED = re.compile(r'^execpool_e2b_requests_total\{.*outcome="(?:Paced|Full)".*\} ([0-9.e+]+)$', re.MULTILINE)
"""What the operator calls an answer of 429: too fast, or too many."""


class Witness:
    """Reads the facts of one pool, from a moment on.

    Args:
        door: to its cluster.
        account: where its sandboxes come from.
        namespace: of the pool.
        pool: its name.
        since: UNIX seconds; what was before is not counted.
    """

    def __init__(self, door: Door, account: Account, namespace: str, pool: str, since: float) -> None:
        self._door = door
        self._account = account
        self._listing = (
            "--namespace",
            namespace,
            "get",
            "pods,e2bsandboxes",
            "--selector",
            f"execpool.dev/pool={pool}",
        )
        self._since = since
        self._executors: dict[str, Executor] = {}
        self._refused_before = 0 if account.is_emulated else self._refused()
        self._known = Facts()

    def facts(self) -> Facts:
        """Return all that is known now; what cannot be read now is as it was."""
        with suppress(UpError):
            self._executors |= read_executors(json.loads(self._door.kubectl(*self._listing, "--output", "json")))
            self._known = self._from_ledger() if self._account.is_emulated else self._without_ledger()
        return self._known

    def _from_ledger(self) -> Facts:
        return combine(self._executors, Ledger.read(self._ledger().splitlines(), self._since))

    def _without_ledger(self) -> Facts:
        sandboxes = [one for one in self._executors.values() if one.sandbox_id]
        created = sum(one.birth.begun >= self._since for one in sandboxes)
        return Facts(self._executors, created=created, refused=self._refused() - self._refused_before)

    def _ledger(self) -> str:
        command = ("tail", "--lines", str(LINES), LEDGER)
        return self._door.kubectl("--namespace", NAMESPACE, "exec", f"deployment/{EMULATOR}", "--", *command)

    def _refused(self) -> int:
        """Return the 429s that the operator has had from E2B since it started."""
        selector = f"app.kubernetes.io/name={_OPERATOR}"
        pods = ("get", "pods", "--selector", selector, "--output", "jsonpath={.items[0].metadata.name}")
        pod = self._door.kubectl("--namespace", NAMESPACE, *pods).strip()
        raw = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8081/proxy/metrics"
        return sum(int(float(count)) for count in _REFUSED.findall(self._door.kubectl("get", "--raw", raw)))
