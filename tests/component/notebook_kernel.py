"""A real ipykernel behind jupyter_client, and what it says of a cell in the terms of the notebook's events."""

import os
import sys
import tempfile
from pathlib import Path

from jupyter_client.manager import KernelManager

SECONDS = 60
ARGUMENTS = ["-m", "ipykernel_launcher", "-f", "{connection_file}", "--InteractiveShell.colors=nocolor"]


class Kernel:
    """A running kernel without colours and without standard input; use as a context."""

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory(prefix="execpool-kernel-")
        kept = {name: os.environ[name] for name in ("PATH", "VIRTUAL_ENV", "LANG") if name in os.environ}
        cache = str(Path(tempfile.gettempdir()) / "execpool-test-matplotlib")
        self._environment = {**kept, "HOME": self._directory.name, "MPLCONFIGDIR": cache, "SHELL": "sh"}
        self._start()
        return self

    def __exit__(self, *_):
        self._stop()
        self._directory.cleanup()

    def _start(self):
        self.new = True
        file = str(Path(self._directory.name) / "kernel.json")
        self._manager = KernelManager(kernel_name="python3", connection_file=file)
        self._manager.kernel_spec.argv = [sys.executable, *ARGUMENTS]
        self._manager.start_kernel(env=self._environment, cwd=self._directory.name)
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=SECONDS)

    def _stop(self):
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._manager.cleanup_resources()

    def make_new(self):
        """Begin again, with the next cell as number 1."""
        if not self.new:
            self._stop()
            self._start()

    def run(self, *cells: str) -> list[dict]:
        """Run cells one after the other."""
        self.new = False
        return [self._ask(cell) for cell in cells]

    def _ask(self, cell):
        said = []
        reply = self._client.execute_interactive(
            cell, allow_stdin=False, stop_on_error=False, timeout=SECONDS, output_hook=said.append
        )["content"]
        answer = {"stdout": "", "stderr": "", "events": []}
        for message in said:
            _note(answer, message["msg_type"], message["content"])
        if reply["status"] == "error" and not any(event["type"] == "error" for event in answer["events"]):
            answer["events"].append(_error(reply, answer))
        return answer


def _note(answer, kind, content):
    after = [len(answer["stdout"].encode()), len(answer["stderr"].encode())]
    if kind == "stream":
        answer[content["name"]] += content["text"]
    elif kind in ("execute_result", "display_data"):
        answer["events"].append(
            {"type": "result", "bundle": content["data"], "is_main_result": kind == "execute_result", "after": after}
        )
    elif kind == "error" and not any(event["type"] == "error" for event in answer["events"]):
        answer["events"].append(_error(content, answer))


def _error(content, answer):
    return {
        "type": "error",
        "name": content["ename"],
        "value": content["evalue"],
        "traceback": "\n".join(content["traceback"]),
        "after": [len(answer["stdout"].encode()), len(answer["stderr"].encode())],
    }
