"""A local executor for component tests: server and runner as two processes, in directories of their own.

    async with executor(slots=2) as running:
        token, epoch = await running.claim("alice")
        lines = await running.execute("1+1")

`executor(...)` yields once the executor is ready. `running.data_url`, `running.control_url`, `running.executor_id`,
`running.pod_uid` and `running.secret` are what a gateway needs. Nothing of it touches the machine's /tmp or /dev/shm.
"""

import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from execpool import protocol
from execpool.executor.runner import processes

SOURCE = Path(__file__).resolve().parents[2] / "operator"
READY_SECONDS = 30.0
ALICE = "principal-alice"
WITH_MEASURES = """
import sys
from execpool.executor import logs, settings
from execpool.executor.runner import sandbox, zygote
logs.configure(component="runner")
sys.exit(zygote.run(settings.runner_settings(), sandbox.Measures({})))
"""
WITHOUT_THE_CAP = """
import sys
from execpool.executor import main
from execpool.executor.server import output
output.Allowance.__init__.__kwdefaults__["capped"] = False
sys.exit(main.main(["server"]))
"""


@dataclass
class Process:
    """One of the two processes, and its log lines as they come."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, command: str, environment: dict[str, str], code: str = "", cwd: Path | None = None
    ) -> "Process":
        """Start `server` or `runner`, or what a test puts in the place of one."""
        program = ["-c", code] if code else ["-m", "execpool.executor.main", command]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *program, env=environment, stdout=asyncio.subprocess.PIPE, cwd=cwd
        )
        started = cls(process)
        started.reading = asyncio.create_task(started._read())
        return started

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"message": line.decode(errors="replace")})

    def said(self, message: str, **fields: object) -> list[dict[str, Any]]:
        """The log lines with this message and these fields."""
        return [line for line in self.log if line["message"] == message and fields.items() <= line.items()]

    async def wait_for(self, message: str, seconds: float = READY_SECONDS, **fields: object) -> dict[str, Any]:
        """Wait for a log line; fails with the whole log."""
        async with asyncio.timeout(seconds):
            while not self.said(message, **fields):
                if self.process.returncode is not None and (self.reading is None or self.reading.done()):
                    raise AssertionError(f"ended with {self.process.returncode} before {message!r}: {self.log}")
                await asyncio.sleep(0.01)
        return self.said(message, **fields)[0]

    async def exit_status(self, seconds: float = 10.0) -> int:
        """Wait for the end of the process."""
        async with asyncio.timeout(seconds):
            status = await self.process.wait()
            if self.reading is not None:
                await self.reading
        return status

    async def end(self) -> None:
        """Kill what is left."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()
        with suppress(TimeoutError):
            await self.exit_status(2.0)
        if self.reading is not None:
            self.reading.cancel()
        self.process._transport.close()


@dataclass
class LocalExecutor:
    """A running executor and a client for it."""

    executor_id: str
    pod_uid: str
    secret: str
    directory: Path
    server_environment: dict[str, str]
    runner_environment: dict[str, str]
    http: aiohttp.ClientSession
    server: Process
    runner: Process
    data_port: int = 0
    control_port: int = 0
    token: str = ""
    epoch: int = 0
    earlier: list[Process] = field(default_factory=list)
    """Those that were started again since."""

    @property
    def host(self) -> str:
        return "127.0.0.1"

    @property
    def data_url(self) -> str:
        return f"http://{self.host}:{self.data_port}"

    @property
    def control_url(self) -> str:
        return f"http://{self.host}:{self.control_port}"

    @property
    def work_dir(self) -> Path:
        return self.directory / "work"

    @property
    def scratch_dir(self) -> Path:
        return self.directory / "scratch"

    @property
    def home_dir(self) -> Path:
        return self.directory / "home"

    @property
    def socket_dir(self) -> Path:
        return self.directory / "socket"

    async def learn_ports(self) -> None:
        listening = await self.server.wait_for("listening")
        self.data_port, self.control_port = listening["data_port"], listening["control_port"]

    async def wait_ready(self, *, ready: bool = True, seconds: float = READY_SECONDS) -> None:
        """Wait until /readyz answers 200, or does not."""
        async with asyncio.timeout(seconds):
            while (await self.readiness() == 200) is not ready:
                assert not ready or self.runner.process.returncode in (None, 0), self.runner.log
                await asyncio.sleep(0.01)

    async def readiness(self) -> int:
        """The status of /readyz; 0 when nobody listens."""
        try:
            async with self.http.get(f"{self.control_url}/readyz") as answer:
                return answer.status
        except aiohttp.ClientError:
            return 0

    async def control(self, path: str, body: object) -> tuple[int, dict[str, Any]]:
        """POST to the control port."""
        async with self.http.post(f"{self.control_url}{path}", json=body) as answer:
            return answer.status, await answer.json(content_type=None)

    async def state(self) -> protocol.State:
        async with self.http.get(f"{self.control_url}/state") as answer:
            return protocol.State.decode(await answer.read())

    async def claim(self, principal: str = ALICE) -> tuple[str, int]:
        """Claim for a principal and remember the grant."""
        status, grant = await self.control("/claim", {"secret": self.secret, "principal": principal})
        assert status == 200, grant
        self.token, self.epoch = grant["token"], grant["epoch"]
        return self.token, self.epoch

    async def retire(self, expect: str, epoch: int = 0) -> tuple[int, dict[str, Any]]:
        return await self.control("/retire", {"secret": self.secret, "expect": expect, "epoch": epoch})

    def headers(self, execution_id: str = "") -> dict[str, str]:
        return {
            protocol.HEADER_TOKEN: self.token,
            protocol.HEADER_EPOCH: str(self.epoch),
            protocol.HEADER_EXECUTION: execution_id or secrets.token_hex(8),
        }

    def post(self, code: str, *, execution_id: str = "", **fields: object) -> Any:
        """The /execute call itself, to be entered as a context."""
        body = {"code": code, "stateless": True, **fields}
        return self.http.post(f"{self.data_url}/execute", json=body, headers=self.headers(execution_id))

    async def execute(self, code: str, *, execution_id: str = "", **fields: object) -> list[dict[str, Any]]:
        """Run code and return its events."""
        async with self.post(code, execution_id=execution_id, **fields) as answer:
            text = await answer.text()
            assert answer.status == 200, text
        return [json.loads(line) for line in text.splitlines()]

    async def restart_runner(self) -> None:
        """Start a runner again, as the kubelet does."""
        self.earlier.append(self.runner)
        self.runner = await Process.start("runner", self.runner_environment, cwd=self.home_dir)

    async def restart_server(self) -> None:
        """Start a server again, as the kubelet does."""
        self.earlier.append(self.server)
        self.server = await Process.start("server", self.server_environment)


def below(running: LocalExecutor) -> list[int]:
    """All processes below the runner."""
    found, pending = [], [running.runner.process.pid]
    while pending:
        children = processes.children_of(pending.pop())
        pending += children
        found += children
    return found


async def no_process_is_left(running: LocalExecutor, seconds: float = 3.0) -> None:
    """Wait until there are only supervisors below the runner, each with the one process that it has parked."""
    async with asyncio.timeout(seconds):
        while not _only_parked(running):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


def _only_parked(running: LocalExecutor) -> bool:
    supervisors = processes.children_of(running.runner.process.pid)
    parked = [processes.children_of(pid) for pid in supervisors]
    return all(len(pids) == 1 for pids in parked) and len(below(running)) == 2 * len(supervisors)


async def wait_until_gone(find: Callable[[], list[Path]], seconds: float = 3.0) -> None:
    """Wait until nothing is found: a run's files go after its answer has been given."""
    async with asyncio.timeout(seconds):
        while find():  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)


def _directories(directory: Path) -> None:
    for name in ("socket", "state", "work", "scratch", "shm", "home"):
        (directory / name).mkdir()


def _environment(**variables: object) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "VIRTUAL_ENV") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(SOURCE),
        "PYTHONSAFEPATH": "1",
        **{name: str(value) for name, value in variables.items()},
    }


@asynccontextmanager
async def executor(
    *,
    slots: int = 4,
    idle_seconds: float = 120,
    max_age_seconds: float = 3600,
    network: str = "None",
    memory_bytes: int = 0,
    wait_ready: bool = True,
    science: bool = False,
    measures: str = "",
    server_program: str = "",
    server_variables: dict[str, str] | None = None,
    runner_variables: dict[str, str] | None = None,
) -> AsyncIterator[LocalExecutor]:
    """Start a local executor; everything of it is gone afterwards.

    Hardening is left out by `measures`, the arguments of the runner's `Measures`, and by a `server_program` of a test.
    """
    executor_id, pod_uid, secret = secrets.token_hex(16), str(uuid.uuid4()), secrets.token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="execpool-test-") as name:
        directory = Path(name)
        _directories(directory)
        shared = {protocol.ENV_SOCKET_DIR: directory / "socket", protocol.ENV_SLOTS: slots}
        server_environment = _environment(
            **shared,
            EXECPOOL_HOST="127.0.0.1",
            EXECPOOL_DATA_PORT=0,
            EXECPOOL_CONTROL_PORT=0,
            **{
                protocol.ENV_EXECUTOR_ID: executor_id,
                protocol.ENV_POD_UID: pod_uid,
                protocol.ENV_SECRET_HASH: protocol.secret_hash(secret),
                protocol.ENV_IDLE_SECONDS: idle_seconds,
                protocol.ENV_MAX_AGE_SECONDS: max_age_seconds,
                protocol.ENV_STATE_DIR: directory / "state",
            },
            **(server_variables or {}),
        )
        runner_environment = _environment(
            **shared,
            EXECPOOL_WORK_DIR=directory / "work",
            EXECPOOL_SWEEP_DIRS=f"{directory / 'scratch'}:{directory / 'shm'}",
            EXECPOOL_HOME_DIR=directory / "home",
            EXECPOOL_SCIENCE=int(science),
            **{protocol.ENV_NETWORK: network, protocol.ENV_MEMORY_BYTES: memory_bytes},
            **(runner_variables or {}),
        )
        server = await Process.start("server", server_environment, server_program)
        runner_program = WITH_MEASURES.format(measures) if measures else ""
        runner = await Process.start("runner", runner_environment, runner_program, directory / "home")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            running = LocalExecutor(
                executor_id=executor_id,
                pod_uid=pod_uid,
                secret=secret,
                directory=directory,
                server_environment=server_environment,
                runner_environment=runner_environment,
                http=http,
                server=server,
                runner=runner,
            )
            try:
                await running.learn_ports()
                if wait_ready:
                    await running.wait_ready()
                yield running
            finally:
                await _end(running)


async def _end(running: LocalExecutor) -> None:
    """End the server first: the runner then ends its runs and leaves by itself."""
    if running.server.process.returncode is None:
        running.server.process.send_signal(signal.SIGTERM)
    with suppress(TimeoutError):
        clean = await running.server.exit_status(8.0) == 0
        await running.runner.exit_status(5.0 if clean else 0.2)
    for process in (*running.earlier, running.server, running.runner):
        await process.end()
