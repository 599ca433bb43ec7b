"""The tier of cloud sandboxes, on the emulator as `make up` deploys it: whatever is said here of sandboxes, its ledger says."""

import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.e2e.emulated import ACCOUNT, Cloud, Emulator, until
from tests.e2e.story import SYSTEM, Installed, Story, eventually

from execpool.cli.accounts import EMULATOR, emulated
from execpool.cli.doors import LocalClusterDoor
from execpool.cli.up import apply_base, await_rollout
from execpool.emulator.ledger import Event

ROOT = Path(__file__).resolve().parents[2]
WRONG_KEY = "e2b_" + "0f" * 20
DENIED = "e2e-denied"
SILENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def emulator(installed: Installed) -> Iterator[Emulator]:
    """Deploy the emulator beside what is installed, with an account for the stories of this file."""
    door = LocalClusterDoor(ROOT)
    apply_base(door, installed.images, emulated())
    await_rollout(door, emulated())
    told = Emulator(installed)
    told.put_account()
    yield told
    told.kubectl("delete", "e2baccount", ACCOUNT)


@pytest.fixture
def cloud(story: Story, emulator: Emulator) -> Cloud:
    emulator.put_account(allowed=(story.namespace,))
    return Cloud(story, emulator)


@dataclass(frozen=True)
class Denied:
    """An account whose key is wrong, from the first story on: the last one has not to wait for its minute."""

    emulator: Emulator
    cloud: Cloud
    since: float

    def requests(self) -> list[float]:
        """Return when a call was answered with 401."""
        refused = self.emulator.history().of(Event.REFUSED)
        return [one.time for one in refused if one.status == 401 and one.time >= self.since]


@pytest.fixture(scope="module", autouse=True)
def denied(emulator: Emulator) -> Iterator[Denied]:
    cloud, since = Cloud(Story(emulator.installed, DENIED), emulator), time.time()
    emulator.kubectl("create", "namespace", DENIED)
    emulator.put_secret(DENIED, WRONG_KEY)
    emulator.put_account(DENIED, DENIED, (DENIED,))
    cloud.put_pool(replicas=1, account=DENIED)
    yield Denied(emulator, cloud, since)
    cloud.story.kubectl("delete", "executionpool", "pool", "--timeout=50s")
    emulator.kubectl("delete", "e2baccount", DENIED)
    emulator.kubectl("delete", "secret", DENIED)
    emulator.kubectl("delete", "namespace", DENIED, "--wait=false")


def test_a_pool_keeps_three_sandboxes_warm_and_the_account_holds_no_other(cloud: Cloud):
    cloud.put_pool(replicas=3)
    warm = cloud.warm(3)
    assert cloud.emulator.alive(cloud.uid()) == set(warm.values())
    assert cloud.story.status()["readyReplicas"] == 3
    assert cloud.emulator.account_condition(ACCOUNT, "Ready")["status"] == "True"
    assert "not E2B's own" in cloud.story.condition("IsolationVerified")["message"]


def test_an_execution_runs_in_a_warm_sandbox_and_none_is_created_on_its_path(cloud: Cloud):
    cloud.put_pool(replicas=3)
    warm = cloud.warm(3)
    submitted = time.time()
    answer = cloud.story.run("print('hello')\nsum(range(10))", tier="e2b")
    assert (answer.status, answer.body["route"]["tier"]) == ("Succeeded", "e2b"), answer.body
    assert (answer.body["stdout"], answer.body["results"][0]["text"]) == ("hello\n", "45")
    assert answer.executor in warm
    used = warm[answer.executor]
    assert cloud.emulator.executions(cloud.uid()) == [used]
    assert cloud.emulator.lives(cloud.uid())[used].created.time < submitted
    assert cloud.records()[answer.executor]["status"]["phase"] == "Claimed"


def test_two_users_never_share_a_sandbox_and_one_user_keeps_his(cloud: Cloud):
    cloud.put_pool(replicas=2)
    cloud.warm(2)
    answers = [cloud.story.run("1", user=user) for user in ("ada", "bob", "ada", "bob")]
    assert [one.status for one in answers] == ["Succeeded"] * 4, [one.body for one in answers]
    ada, bob, ada_again, bob_again = (one.executor for one in answers)
    assert (ada, bob) == (ada_again, bob_again)
    assert ada != bob
    assert len(cloud.emulator.executions(cloud.uid())) == 4


def test_a_pool_scaled_to_nothing_leaves_no_sandbox(cloud: Cloud):
    cloud.put_pool(replicas=3)
    cloud.warm(3)
    cloud.story.kubectl("scale", "executionpool/pool", "--replicas=0")
    eventually(lambda: not cloud.records(), "no records")
    assert cloud.emulator.alive(cloud.uid()) == set()


def test_a_deleted_pool_leaves_no_sandbox_not_even_a_claimed_one(cloud: Cloud):
    cloud.put_pool(replicas=2)
    cloud.warm(2)
    assert cloud.story.run("1").status == "Succeeded"
    uid = cloud.uid()
    cloud.story.kubectl("delete", "executionpool", "pool", "--timeout=50s")
    assert (cloud.records(), cloud.emulator.alive(uid)) == ({}, set())


def test_two_namespaces_share_an_account_and_one_that_is_not_allowed_is_told_so(
    cloud: Cloud, installed: Installed, namespaces: tuple[str, str]
):
    emulator, (neighbour, stranger) = cloud.emulator, namespaces
    emulator.put_account(allowed=(cloud.story.namespace, neighbour))
    beside, outside = (Cloud(Story(installed, one), emulator) for one in (neighbour, stranger))
    for one in (cloud, beside, outside):
        one.put_pool(replicas=1)
    shared = {**cloud.warm(1), **beside.warm(1)}
    assert len(shared) == 2
    eventually(lambda: emulator.account_status(ACCOUNT)["sandboxes"]["ours"] == 2, "both counted at the account")
    told = eventually(
        lambda: [one for one in outside.story.status().get("conditions", []) if one["reason"] == "NotAllowed"],
        "a condition with the reason NotAllowed",
    )
    assert f"does not allow namespace {stranger}" in told[0]["message"]
    assert "allowedNamespaces" in told[0]["message"]
    assert (outside.ready(), emulator.alive(outside.uid())) == ({}, set())


def test_the_admin_port_is_for_those_who_may_exec_alone(emulator: Emulator):
    service = json.loads(emulator.kubectl("get", "service", EMULATOR, "--output", "json"))
    assert [port["port"] for port in service["spec"]["ports"]] == [8080]
    pod = json.loads(emulator.kubectl("get", "pods", "--selector", f"app.kubernetes.io/name={EMULATOR}", "-o", "json"))
    (address,) = {one["status"]["podIP"] for one in pod["items"] if one["status"]["phase"] == "Running"}
    with urllib.request.urlopen(f"http://{address}:8080/health", timeout=5) as response:
        assert response.status == 200
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{address}:3001/health", timeout=5)


LOOKS_FOR_KEYS = """
import glob, os
found, read = [], 0
for path in [*glob.glob('/proc/[0-9]*/environ'), *glob.glob('/proc/[0-9]*/cmdline'), *glob.glob('/var/lib/execpool/*')]:
    try:
        said = open(path, 'rb').read()
    except OSError:
        continue
    read += 1
    if b'e2b_' in said:
        found.append(path)
found, [name for name, value in os.environ.items() if 'e2b_' in value], read > 0
"""
READS_ENVIRONMENTS = """
import os, sys
for pid in filter(str.isdigit, os.listdir('/proc')):
    try:
        sys.stdout.buffer.write(open(f'/proc/{pid}/environ', 'rb').read() if int(pid) != os.getpid() else b'')
    except OSError:
        pass
"""
"""Of all processes in the emulator's container but itself, which `kubectl exec` gives the container's own."""


def test_the_key_is_nowhere_but_in_its_secret(cloud: Cloud):
    cloud.put_pool(replicas=1)
    cloud.warm(1)
    answer = cloud.story.run(LOOKS_FOR_KEYS, tier="e2b")
    assert answer.body["results"][0]["text"] == "([], [], True)", answer.body
    kubectl, key = cloud.emulator.kubectl, cloud.emulator.key()
    said = {part: kubectl("logs", f"deployment/{part}") for part in ("execpool-operator", "execpool-gateway", EMULATOR)}
    for pod in kubectl("get", "pods", "--output", "name").split():
        if EMULATOR not in pod:
            name = pod.removeprefix("pod/")
            said[f"metrics of {name}"] = kubectl(
                "get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8081/proxy/metrics"
            )
    kinds = "executionpools,e2baccounts,e2bsandboxes,executionkeys,events,leases,pods,deployments,configmaps"
    said["objects"] = kubectl("get", kinds, "--all-namespaces", "--output", "yaml")
    said["environments of sandboxes"] = cloud.emulator.inside("python", "-c", READS_ENVIRONMENTS)
    assert all(said.values())
    assert [where for where, text in said.items() if key in text or WRONG_KEY in text] == []


def test_a_wrong_key_stalls_its_account_is_not_tried_again_for_a_minute_and_a_corrected_one_heals_it(denied: Denied):
    emulator = denied.emulator
    stalled = eventually(lambda: emulator.account_condition(DENIED, "Stalled"), "the account stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "CredentialInvalid")
    assert f"Secret {DENIED} of namespace {SYSTEM}" in stalled["message"]
    assert stalled["message"] in denied.cloud.story.condition("Stalled")["message"]
    first = denied.requests()[0]
    until(first + SILENCE_SECONDS)
    assert [moment for moment in denied.requests() if first < moment < first + SILENCE_SECONDS] == []
    emulator.put_secret(DENIED, emulator.key())
    corrected = time.monotonic()
    eventually(lambda: emulator.account_condition(DENIED, "Ready").get("status") == "True", "the account healed", 10)
    assert time.monotonic() - corrected < 10
    assert emulator.account_condition(DENIED, "Stalled") == {}
    denied.cloud.warm(1)


@pytest.fixture
def namespaces(installed: Installed, namespace: str) -> Iterator[tuple[str, str]]:
    """Yield two more namespaces."""
    kubectl = installed.cluster.kubectl
    names = (f"{namespace}-b", f"{namespace}-c")
    for name in names:
        kubectl("create", "namespace", name)
    yield names
    for name in names:
        kubectl("--namespace", name, "delete", "executionpools", "--all", "--wait=false")
        kubectl("delete", "namespace", name, "--wait=false")
