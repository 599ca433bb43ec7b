"""A pool as an administrator sees it: applied, filled, scaled, changed, suspended, deleted."""

import time

import pytest
from tests.e2e.story import Story, eventually


def test_an_applied_pool_becomes_ready_and_runs_code(story: Story):
    story.apply_pool()
    story.kubectl("wait", "--for=condition=Ready", "executionpool/pool", "--timeout=60s")
    answer = story.run("print('hello')\nsum(range(10))")
    assert (answer.code, answer.status, answer.body["stdout"]) == (200, "Succeeded", "hello\n")
    assert answer.body["results"][0]["text"] == "45"


def test_kubectl_shows_what_a_pool_holds(story: Story):
    story.ready_pool()
    header, row = story.kubectl("get", "expool").splitlines()
    assert header.split()[:5] == ["NAME", "READY", "WARM", "CLAIMED", "DESIRED"]
    assert row.split()[:5] == ["pool", "True", "2/2", "0", "2"]


def test_a_deleted_warm_pod_is_replaced(story: Story):
    story.ready_pool()
    victim = min(story.pod_names())
    story.kubectl("delete", "pod", victim, "--wait=false")
    eventually(lambda: len(story.pod_names() - {victim}) == 2, "a replacement", 5)
    story.settled(2)


def test_scaling_from_zero_to_eight_to_three_settles_each_time_and_never_exceeds_max(story: Story):
    story.apply_pool(replicas=0, pods={"max": 8})
    story.kubectl("wait", "--for=condition=Ready", "executionpool/pool", "--timeout=30s")
    for replicas in (8, 3):
        story.kubectl("scale", "executionpool/pool", f"--replicas={replicas}")
        deadline = time.monotonic() + 60
        while story.status().get("readyReplicas") != replicas or len(story.pods()) != replicas:
            assert len(story.pods()) <= 8
            assert time.monotonic() < deadline
    assert story.status()["selector"].startswith("execpool.dev/pool=pool")


def test_a_template_change_replaces_all_executors_and_never_leaves_the_pool_empty(story: Story):
    story.ready_pool()
    before = story.pod_names()
    story.apply_pool(pods={"slots": 2})

    def all_new() -> bool:
        ready = [
            pod
            for pod in story.pods()
            if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
        ]
        assert ready, "no executor was ready during the change"
        return not before & story.pod_names()

    eventually(all_new, "all executors replaced", 60)
    story.settled(2)
    assert story.condition("Reconciling") == {}


def test_suspending_empties_a_pool_and_refuses_with_a_reason(story: Story):
    story.ready_pool()
    story.apply_pool(suspend=True)
    eventually(lambda: not story.pods(), "no executor left", 30)
    answer = story.run("1")
    assert (answer.code, answer.body["reason"]) == (503, "PoolSuspended")


def test_a_bad_image_is_told_within_ten_seconds_while_good_executors_serve(story: Story):
    story.ready_pool()
    good = story.pod_names()
    started = time.monotonic()
    story.apply_pool(pods={"image": "localhost/there-is-no-such-image:1"})
    told = eventually(
        lambda: "there-is-no-such-image" in story.status()["tiers"][0].get("message", ""),
        "the image named in the status",
        10,
    )
    assert told
    assert time.monotonic() - started < 10
    assert good <= story.pod_names()
    assert story.run("1 + 1").status == "Succeeded"


def test_a_bad_image_in_a_new_pool_has_a_condition_and_an_event_within_ten_seconds(story: Story):
    story.apply_pool(pods={"image": "localhost/there-is-no-such-image:1"})
    eventually(lambda: story.condition("WarmPoolFilled").get("reason") == "ImageUnavailable", "the condition", 10)

    def reasons() -> list[str]:
        events = story.json("events.events.k8s.io")["items"]
        return [event["reason"] for event in events if event["regarding"]["kind"] == "ExecutionPool"]

    eventually(lambda: "ImageUnavailable" in reasons(), "the event", 5)


def test_a_runtime_class_that_does_not_exist_stalls_the_pool_and_names_it(story: Story):
    story.apply_pool(pods={"runtimeClassName": "gvisor"})
    stalled = eventually(lambda: story.condition("Stalled"), "Stalled", 10)
    assert stalled["reason"] == "RuntimeClassNotFound"
    assert "gvisor" in stalled["message"]
    assert story.pods() == []


@pytest.mark.parametrize("policy", ["Drain", "Delete"])
def test_deleting_a_pool_leaves_no_pod(story: Story, policy: str):
    story.ready_pool(deletion={"policy": policy})
    story.kubectl("delete", "executionpool", "pool", "--timeout=30s")
    assert story.pods() == []
    assert story.json("networkpolicies")["items"] == []


def test_deleting_a_pool_lets_a_run_end_first(story: Story):
    story.ready_pool(deletion={"policy": "Drain", "timeoutSeconds": 60})
    running = story.start("import time; time.sleep(6); 'done'")
    eventually(lambda: story.status().get("claimed") == 1, "the claim in the status", 10)
    story.kubectl("delete", "executionpool", "pool", "--timeout=60s")
    answer = running.result(30)
    assert (answer.status, answer.body["results"][0]["text"]) == ("Succeeded", "done")
    assert story.pods() == []


def test_a_drain_that_runs_out_ends_the_run_and_the_caller_is_told(story: Story):
    story.ready_pool(deletion={"policy": "Drain", "timeoutSeconds": 2})
    running = story.start("import time; time.sleep(60)")
    eventually(lambda: story.status().get("claimed") == 1, "the claim in the status", 10)
    story.kubectl("delete", "executionpool", "pool", "--timeout=60s")
    answer = running.result(30)
    assert answer.status in ("Killed", "Unknown")
    assert answer.body["reason"]
    assert story.pods() == []
