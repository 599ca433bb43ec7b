"""Code through the gateway: who may, who shares what with whom, what is said when something dies."""

import time

import pytest
from tests.e2e.story import SYSTEM, Story, eventually, post


@pytest.mark.parametrize("container", ["server", "runner"])
def test_an_executor_process_killed_in_mid_run_ends_as_unknown_with_a_reason(story: Story, container: str):
    story.ready_pool(replicas=1)
    running = story.start("import time; time.sleep(60)")
    eventually(lambda: story.status().get("claimed") == 1, "the claim in the status", 10)
    story.kill(story.holder(), container)
    answer = running.result(30)
    assert (answer.code, answer.status) == (200, "Unknown")
    assert answer.body["reason"] in ("ExecutorLost", "RunnerLost")
    assert answer.body["message"]
    assert story.run("1 + 1").status == "Succeeded", "the same principal is served again"


def test_a_pod_deleted_by_force_in_mid_run_ends_as_killed_or_unknown_never_in_silence(story: Story):
    story.ready_pool(replicas=1)
    running = story.start("import time; time.sleep(60)")
    eventually(lambda: story.status().get("claimed") == 1, "the claim in the status", 10)
    story.kubectl("delete", "pod", story.holder(), "--grace-period=0", "--force", "--wait=false")
    answer = running.result(30)
    assert answer.status in ("Unknown", "Killed")
    assert answer.body["reason"]


def test_two_principals_never_share_an_executor_by_the_executors_own_logs(story: Story):
    story.make_key("tenant-b")
    story.ready_pool(replicas=2, pods={"max": 6, "slots": 4})
    runs = [
        story.start("import time; time.sleep(0.3)", tenant=tenant, user=user)
        for _ in range(4)
        for tenant in ("tenant-a", "tenant-b")
        for user in ("ada", "bob")
    ]
    answers = [run.result(60) for run in runs]
    assert {answer.status for answer in answers} == {"Succeeded"}
    for pod in story.pods():
        logs = story.executor_logs(pod["metadata"]["name"])
        principals = {line["principal"] for line in logs if line.get("message") in ("claimed", "run started")}
        assert len(principals) <= 1, f"{pod['metadata']['name']} served {principals}"
    assert len({answer.executor for answer in answers}) >= 4


def test_ten_principals_on_three_executors_do_not_wait_for_idle_seconds(story: Story):
    story.ready_pool(replicas=1, pods={"max": 3, "slots": 1, "idleSeconds": 600})
    started = time.monotonic()
    runs = [story.start("sum(range(1000))", user=f"user-{number}") for number in range(10)]
    answers = [run.result(110) for run in runs]
    took = time.monotonic() - started
    assert {answer.status for answer in answers} == {"Succeeded"}, [answer.body for answer in answers]
    assert took < 60, f"{took:.0f} s; idleSeconds is 600"
    assert len({answer.executor for answer in answers}) == 10


def test_a_gateway_restart_keeps_the_claims(story: Story):
    story.ready_pool(replicas=1, pods={"max": 2})
    first = story.run("1", user="ada")
    kubectl = story.installed.cluster.kubectl
    kubectl("--namespace", SYSTEM, "rollout", "restart", "deployment/execpool-gateway")
    kubectl("--namespace", SYSTEM, "rollout", "status", "deployment/execpool-gateway", "--timeout=90s", timeout=100)
    second = eventually(lambda: story.run_if_reached("2", user="ada"), "the gateway back", 40)
    assert second.executor == first.executor


def test_a_wrong_key_is_refused_and_a_key_sees_only_its_namespace(story: Story):
    story.ready_pool()
    assert post(story.installed.url, "ep_" + "0" * 64, {"code": "1", "pool": "pool"}).code == 401
    answer = story.run("1", pool="another")
    assert (answer.code, answer.body["reason"]) == (404, "PoolNotFound")
    assert "pool" in answer.body["detail"]


def test_a_limit_is_kept_and_named(story: Story):
    story.ready_pool()
    answer = story.run("while True: pass", timeoutSeconds=2)
    assert (answer.status, answer.seconds < 4) == ("TimedOut", True)
    answer = story.run("bytearray(10**10)")
    assert (answer.status, answer.body["error"]["name"]) == ("Failed", "MemoryError")
    answer = story.run("import socket; socket.create_connection(('198.18.0.2', 6443), 2)")
    assert "Network is unreachable" in answer.body["error"]["value"]


def test_code_runs_as_a_notebook_cell_does(story: Story):
    story.ready_pool(replicas=1, pods={"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}})
    code = "import pandas as pd\nimport matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.show()\n!echo shell\npd.DataFrame({'n': [1]})"
    answer = story.run(code)
    assert answer.status == "Succeeded", answer.body
    figure, table = answer.body["results"]
    assert (figure["chart"]["type"], figure["png"][:8]) == ("bar", "iVBORw0K")
    assert "<table" in table["html"]
    assert answer.body["stdout"] == "shell\n"
    assert story.run("await __import__('asyncio').sleep(0, 'awaited')").body["results"][0]["text"] == "awaited"


ASKS_ITS_OWN_EXECUTOR = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as route:
    route.connect(("192.0.2.1", 9))
    own = route.getsockname()[0]
said = {}
for host in ("127.0.0.1", own):
    for port in (49999, 49983, 49901):
        with socket.create_connection((host, port), 5) as client:
            try:
                client.sendall(b"GET /health HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                said[host, port] = client.recv(100)
            except ConnectionError:
                said[host, port] = b""
len(said), set(said.values())
"""


def test_a_program_with_a_network_gets_no_answer_from_the_ports_of_its_own_executor(story: Story):
    story.ready_pool(replicas=1, pods={"network": "Egress"})
    answer = story.run(ASKS_ITS_OWN_EXECUTOR)
    assert answer.body["results"][0]["text"] == "(6, {b''})", answer.body
    assert story.run("1 + 1").status == "Succeeded"


def test_simple_programs_stay_in_monty_and_the_others_go_to_the_next_tier(story: Story):
    pods = {"max": 2, "slots": 2, "resources": {"limits": {"cpu": "1", "memory": "512Mi"}}}
    tiers = [{"name": "math", "pods": {"runtime": "Monty", **pods}}, {"name": "local", "pods": {"warm": 1, **pods}}]
    story.ready_pool(replicas=1, tiers=tiers, scaledTier="math")
    ranks = {tier["name"]: tier["isolation"] for tier in story.status()["tiers"]}
    assert ranks["math"] == "Interpreter"
    simple = story.run("sum(n * n for n in range(10))")
    other = story.run("import statistics\nstatistics.mean([1, 2, 6])")
    above = story.run("1 + 1", minIsolation="Container")
    assert [one.body["route"]["tier"] for one in (simple, other, above)] == ["math", "local", "local"]
    assert [one.body["results"][0]["text"] for one in (simple, other, above)] == ["285", "3", "2"]


def test_operator_and_gateway_have_no_more_rights_than_their_shipped_roles(story: Story):
    for part, verb, resource in (
        ("operator", "get", "secrets"),
        ("operator", "update", "pods"),
        ("operator", "create", "pods/exec"),
        ("gateway", "get", "secrets"),
        ("gateway", "delete", "pods"),
        ("gateway", "create", "pods"),
        ("gateway", "patch", "executionpools"),
    ):
        account = f"system:serviceaccount:{SYSTEM}:execpool-{part}"
        kind, _, subresource = resource.partition("/")
        told = story.words_of(
            *(
                "auth",
                "can-i",
                verb,
                kind,
                f"--subresource={subresource}",
                "--as",
                account,
                "--namespace",
                story.namespace,
            )
        )
        assert told.rstrip().endswith("no"), f"{part} may {verb} {resource}"
