"""The operator as a process of the test, with the service account's own token, restarted whenever it dies."""

import base64
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.e2e.story import SYSTEM, Installed

PROGRAM = Path(__file__).with_name("crashing_operator.py")


@dataclass
class LocalOperator:
    """Runs the operator for one namespace; `crash_at` applies to its first life only."""

    installed: Installed
    namespace: str
    folder: Path
    crash_at: str = ""
    lives: int = 0
    _stopping: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _keeper: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._prepare()
        self._keeper = threading.Thread(target=self._keep_alive, daemon=True)
        self._keeper.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stopping = True
            if self._process is not None:
                self._process.terminate()
        if self._keeper is not None:
            self._keeper.join(20)

    def log(self) -> str:
        return (self.folder / "operator.log").read_text()

    def _keep_alive(self) -> None:
        while True:
            with self._lock:
                if self._stopping:
                    return
                place = [self.crash_at] if self.crash_at and self.lives == 0 else []
                with (self.folder / "operator.log").open("ab") as log:
                    command = [sys.executable, str(PROGRAM), *place]
                    self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
                self.lives += 1
            self._process.wait()

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "EXECPOOL_KUBECONFIG": str(self.folder / "kubeconfig"),
            "EXECPOOL_ROOT_KEY_DIR": str(self.folder),
            "EXECPOOL_NAMESPACE": SYSTEM,
            "EXECPOOL_NAMESPACES": self.namespace,
            "EXECPOOL_POD_NAME": "local-operator",
            "EXECPOOL_POD_UID": "local-operator",
            "EXECPOOL_EXECUTOR_IMAGE": self.installed.images["executor"],
            "EXECPOOL_HOST": "127.0.0.1",
            "EXECPOOL_HEALTH_PORT": "18091",
        }

    def _prepare(self) -> None:
        """Write the root key of the cluster and a kubeconfig of the operator's service account."""
        kubectl = self.installed.cluster.kubectl
        secret = json.loads(kubectl("--namespace", SYSTEM, "get", "secret", "execpool-root-key", "--output", "json"))
        (self.folder / "current").write_bytes(base64.b64decode(secret["data"]["current"]))
        token = kubectl("--namespace", SYSTEM, "create", "token", "execpool-operator", "--duration=1h").strip()
        config = json.loads(kubectl("config", "view", "--raw", "--flatten", "--output", "json"))
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        (self.folder / "kubeconfig").write_text(json.dumps(config))
