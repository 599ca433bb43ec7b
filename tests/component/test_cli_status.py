"""`execpool status` as a program, with a kubectl that answers from files."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.component.test_cli_commands import Ended, execpool

from execpool.api.names import ANNOTATION_USE
from execpool.core.model import Use
from execpool.core.use import write_use

KUBECTL = """#!/bin/sh
case "$*" in
  *leases*) cat "$0.leases" 2>/dev/null || { echo 'Error: leases is forbidden' >&2; exit 1; } ;;
  *) cat "$0.objects" ;;
esac
"""


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lease(use: Use, age: float = 0) -> dict[str, Any]:
    annotations = {ANNOTATION_USE: write_use({"agents/agents": use})}
    spec = {"renewTime": ago(age), "leaseDurationSeconds": 60}
    return {"kind": "Lease", "metadata": {"name": "gw", "annotations": annotations}, "spec": spec}


def pool(namespace: str, name: str) -> dict[str, Any]:
    tier = {"name": "e2b", "kind": "e2b", "isolation": "MicroVM", "desired": 3, "ready": 3, "starting": 0, "claimed": 2}
    return {
        "kind": "ExecutionPool",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"tiers": [{"name": "e2b", "e2b": {"accountRef": {"name": "main", "namespace": "agents"}, "max": 8}}]},
        "status": {"tiers": [tier | {"terminating": 0}]},
    }


ACCOUNT = {
    "kind": "E2BAccount",
    "metadata": {"namespace": "agents", "name": "main"},
    "spec": {"credentialsSecret": "e2b"},
    "status": {"sandboxes": {"ours": 5, "foreign": 1}, "breaker": "Closed"},
}


def fake_kubectl(folder: Path, leases: list[Any] | None) -> None:
    kubectl = folder / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    objects = [pool("agents", "agents"), pool("team", "other"), ACCOUNT]
    Path(f"{kubectl}.objects").write_text(json.dumps({"items": objects}))
    if leases is not None:
        Path(f"{kubectl}.leases").write_text(json.dumps({"items": leases}))


async def status(folder: Path, *options: str, leases: list[Any] | None = None) -> Ended:
    fake_kubectl(folder, leases)
    return await execpool("status", "--context", "mine", *options, PATH=f"{folder}:/usr/bin:/bin")


async def test_status_prints_the_line_of_each_pool_from_living_gateways_alone(tmp_path: Path) -> None:
    living = lease(Use(executions=12, warm_hits=11, running=1))
    dead = lease(Use(executions=100), age=61)
    ended = await status(tmp_path, leases=[living, dead])
    agents, team = ended.out.splitlines()
    assert (ended.status, ended.err) == (0, "")
    assert agents.startswith("agents/agents  warm 3/3  claimed 2  running 1  waiting 0  warm hits 11/12 (91 %)")
    assert "account agents/main: 6/20 sandboxes" in agents
    assert agents.endswith("cost $0.6660/h")
    assert "team/other  warm 3/3  claimed 2  no gateway tells of executions" in team


async def test_status_of_one_namespace_for_programs(tmp_path: Path) -> None:
    ended = await status(tmp_path, "--namespace", "agents", "--output", "json", leases=[lease(Use(executions=3))])
    (line,) = ended.out.splitlines()
    told = json.loads(line)
    assert (told["pool"], told["executions"], told["accounts"][0]["sandboxes"]) == ("agents", 3, 6)


async def test_status_without_the_right_to_read_leases_says_so_and_tells_the_rest(tmp_path: Path) -> None:
    ended = await status(tmp_path)
    assert (ended.status, len(ended.out.splitlines())) == (0, 2)
    assert "leases is forbidden" in ended.err


async def test_status_of_a_cluster_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2; exit 1\n")
    (tmp_path / "kubectl").chmod(0o755)
    ended = await execpool("status", "--context", "mine", PATH=f"{tmp_path}:/usr/bin:/bin")
    assert (ended.status, "connection refused" in ended.err, "Traceback" in ended.err) == (1, True, False)
