"""The ground on this machine: a local executor. It has no container, so what a container does is not tried here."""

from pathlib import Path

from execpool.executor.runner.processes import children_of
from tests.component.executor_process import LocalExecutor
from tests.hostile.client import Holder
from tests.hostile.footprint import Footprint, used
from tests.hostile.model import Targets


class LocalGround:
    """A claimed local executor."""

    def __init__(self, executor: LocalExecutor, holder: Holder) -> None:
        self._executor = executor
        self.holder = holder
        self.targets = Targets(
            server_pid=executor.server.process.pid,
            control=f"127.0.0.1:{executor.control_port}",
            data=f"127.0.0.1:{executor.data_port}",
            envd=f"127.0.0.1:{executor.server.said('listening')[0]['envd_port']}",
            state_dir=str(executor.directory / "state"),
            socket_dir=str(executor.socket_dir),
        )
        self.calm_seconds = 0.5
        self.canaries = (executor.secret, holder.token, executor.server_environment["EXECPOOL_SECRET_SHA256"])

    def footprint(self) -> Footprint:
        """Return everything below the runner, by pid and name, and what is on the campaign's own file systems."""
        pending, found = [self._executor.runner.process.pid], []
        while pending:
            children = children_of(pending.pop())
            found += [f"{pid} {_name(pid)}" for pid in children]
            pending += children
        return Footprint(tuple(found), used=used({"scratch": self._executor.directory, "/dev/shm": Path("/dev/shm")}))

    def files(self) -> list[str]:
        """Return what runs left where all of them may write."""
        roots = (self._executor.scratch_dir, self._executor.directory / "shm")
        return [str(path) for root in roots for path in root.iterdir()]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ")[:60]
    except OSError:
        return "gone"
