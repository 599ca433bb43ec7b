"""A pool's path on an API server in memory: what is written, in which order, and what the status says of it."""

import pytest
from tests.component.operator_world import OperatorWorld

from execpool.api.names import FINALIZER
from execpool.kube.errors import ConflictError, ForbiddenError, UnreachableError
from execpool.kube.fake import Call
from execpool.kube.kinds import EVENTS, NETWORK_POLICIES, PODS, POOLS


async def test_the_first_visit_is_acknowledged_before_anything_else_is_written():
    world = OperatorWorld()
    await world.pass_once(world.apply_pool())
    written = [(call.verb, call.plural) for call in world.kube.writes()]
    assert written[:3] == [("patch", "executionpools"), ("patch", "executionpools"), ("create", "networkpolicies")]
    assert world.kube.writes()[0].body["status"]["conditions"][0]["status"] == "Unknown"
    assert [call.plural for call in world.kube.writes()[3:6]] == ["pods"] * 3


async def test_a_new_pool_becomes_ready_and_then_nothing_is_written():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref, rounds=4)
    assert (world.condition("Ready")["status"], world.condition("Reconciling")) == ("True", None)
    assert (world.status()["warm"], world.status()["replicas"], world.status()["readyReplicas"]) == ("3/3", 3, 3)
    assert world.status()["selector"] == "execpool.dev/pool=agents,execpool.dev/tier=local"
    before = len(world.kube.writes())
    await world.settle(ref, rounds=5)
    assert len(world.kube.writes()) == before


async def test_scaling_to_zero_to_eight_and_to_three_ends_with_three():
    world = OperatorWorld()
    ref = world.apply_pool(replicas=0, pods={"max": 8})
    await world.settle(ref)
    assert world.condition("Ready")["status"] == "True"
    world.apply_pool(replicas=8, pods={"max": 8})
    await world.settle(ref)
    assert len(world.pods()) == 8
    world.apply_pool(replicas=3, pods={"max": 8})
    await world.settle(ref)
    assert len(world.pods()) == 3
    assert world.most_seen <= 8


async def test_a_template_change_replaces_every_executor_and_reports_reconciling_meanwhile():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    old = set(world.pods())
    world.apply_pool(pods={"slots": 2})
    await world.pass_once(ref)
    assert (world.condition("Ready")["status"], world.condition("Reconciling")["status"]) == ("True", "True")
    await world.settle(ref, rounds=30)
    assert not old & set(world.pods())
    assert (len(world.pods()), world.condition("Reconciling")) == (3, None)


async def test_a_bad_image_is_told_while_good_executors_serve():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    good = set(world.pods())
    world.kubelet.broken.add("nowhere/none:1")
    world.apply_pool(pods={"image": "nowhere/none:1"})
    await world.settle(ref)
    assert good <= set(world.pods())
    assert world.condition("Ready")["status"] == "True"
    told = world.status()["tiers"][0]["message"]
    assert "ErrImagePull" in told
    await world.settle(ref)
    assert len(world.pods()) == 4, "one replacement is held, no more are made"


async def test_a_claimed_executor_is_left_alone_and_replaced_in_the_warm_pool():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    held = world.pods()[0]
    world.kubelet.executor_of(held).claim("p1", running=1)
    await world.settle(ref)
    assert held in world.pods()
    assert (world.status()["claimed"], world.status()["readyReplicas"]) == (1, 3)


async def test_an_executor_that_stops_answering_is_left_alone():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    silent = world.pods()[0]
    world.kubelet.executor_of(silent).answers = False
    await world.settle(ref)
    assert silent in world.pods()


async def test_one_empty_list_ends_nothing_and_creates_nothing():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    before = world.pods()
    genuine, emptied = world.kube.list, []

    async def empty_once(kind, namespace=None, *, labels=""):
        listing = await genuine(kind, namespace, labels=labels)
        if kind is PODS and not emptied:
            emptied.append(True)
            return type(listing)((), listing.resource_version)
        return listing

    world.kube.list = empty_once
    await world.pass_once(ref)
    assert (emptied, world.pods()) == ([True], before)


async def test_deletion_leaves_nothing_behind_and_the_finalizer_goes_last():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    world.delete_pool()
    assert await world.settle(ref) is None
    assert (world.pods(), world.kube.peek(POOLS), world.kube.peek(NETWORK_POLICIES)) == ([], (), ())
    assert world.kube.writes()[-1].plural == "executionpools"


async def test_deletion_waits_for_a_run_and_ends_it_when_the_drain_is_over():
    world = OperatorWorld()
    ref = world.apply_pool(deletion={"policy": "Drain", "timeoutSeconds": 60})
    await world.settle(ref)
    busy = world.pods()[0]
    world.kubelet.executor_of(busy).claim("p1", running=1)
    world.delete_pool()
    world.now = 1_767_225_660.0 + 30
    await world.settle(ref, rounds=5)
    assert world.pods() == [busy]
    assert world.condition("Ready")["reason"] == "Deleting"
    world.now += 60
    assert await world.settle(ref) is None
    assert world.pods() == []


async def test_suspension_empties_the_pool_and_lifting_it_fills_it_again():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    world.apply_pool(suspend=True)
    await world.settle(ref)
    assert (world.pods(), world.condition("Ready")["reason"]) == ([], "Suspended")
    world.apply_pool()
    await world.settle(ref)
    assert len(world.pods()) == 3


async def test_a_refused_creation_is_told_and_tried_again_later_not_at_once():
    world = OperatorWorld()
    tried = []

    def quota(call: Call) -> None:
        if (call.verb, call.plural) == ("create", "pods"):
            tried.append(world.now)
            raise ForbiddenError(403, "Forbidden", "exceeded quota: small, requested: pods=1")

    world.kube.before = quota
    ref = world.apply_pool()
    await world.settle(ref, rounds=6)
    assert len(tried) <= 2, "one attempt at a time, backed off"
    told = world.condition("WarmPoolFilled")
    assert (told["reason"], "exceeded quota" in told["message"]) == ("QuotaExceeded", True)


async def test_a_spec_that_makes_no_sense_stalls_the_pool_with_the_field_and_ends_nothing():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    world.apply_pool(tiers=[{"name": "local", "pods": {"max": 2, "warm": 5}}])
    await world.pass_once(ref)
    stalled = world.condition("Stalled")
    assert (stalled["reason"], "spec.tiers.0.pods" in stalled["message"]) == ("InvalidSpec", True)
    assert len(world.pods()) == 3


async def test_conditions_that_change_leave_one_event_each():
    world = OperatorWorld()
    await world.settle(world.apply_pool())
    reasons = [event["reason"] for event in world.kube.peek(EVENTS)]
    assert reasons.count("Serving") == 1
    assert all(event["regarding"]["name"] == "agents" for event in world.kube.peek(EVENTS))


async def test_ten_claims_a_second_change_the_status_at_most_once_a_second():
    world = OperatorWorld()
    ref = world.apply_pool(pods={"max": 60})
    await world.settle(ref)
    world.kube.calls.clear()
    for number in range(20):
        world.kubelet.executor_of(world.pods()[number % 3]).claim(f"p{number}", running=1)
        await world.pass_once(ref)
        world.kubelet.step()
        world.now += 0.1
    patches = [call for call in world.kube.writes() if call.plural == "executionpools"]
    assert len(patches) <= 5


WRITES = [
    ("patch", "executionpools"),
    ("create", "pods"),
    ("create", "networkpolicies"),
    ("delete", "pods"),
    ("create", "events"),
    ("delete", "networkpolicies"),
]


async def undisturbed(story) -> dict:
    world = OperatorWorld()
    await story(world)
    return world.shape()


async def story_create(world: OperatorWorld) -> None:
    await world.settle(world.apply_pool(), rounds=12)


async def story_scale_down(world: OperatorWorld) -> None:
    ref = world.apply_pool(replicas=6)
    await world.settle(ref)
    world.apply_pool(replicas=2)
    await world.settle(ref, rounds=12)


async def story_template_change(world: OperatorWorld) -> None:
    ref = world.apply_pool()
    await world.settle(ref)
    world.apply_pool(pods={"slots": 2})
    await world.settle(ref, rounds=30)


async def story_delete(world: OperatorWorld) -> None:
    ref = world.apply_pool()
    await world.settle(ref)
    world.delete_pool()
    await world.settle(ref, rounds=20)


STORIES = [story_create, story_scale_down, story_template_change, story_delete]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
@pytest.mark.parametrize("after_effect", [False, True], ids=["before the write", "after the write"])
@pytest.mark.parametrize("nth", range(1, 6))
async def test_a_crash_at_any_write_ends_as_if_there_had_been_none(story, after_effect: bool, nth: int):
    """The nth write of every kind is where the operator dies; a new one carries on from what it finds."""
    expected = await undisturbed(story)
    for verb, plural in WRITES:
        world = OperatorWorld()
        seen = []

        def place(call: Call, verb: str = verb, plural: str = plural, seen: list = seen) -> bool:
            if (call.verb, call.plural) == (verb, plural):
                seen.append(call)
            return len(seen) == nth and (call.verb, call.plural) == (verb, plural)

        world.crash_at(place, after_effect=after_effect)
        await story(world)
        assert world.shape() == expected, f"crash at {verb} {plural} number {nth}"
        assert world.most_seen <= 6


@pytest.mark.parametrize(
    "error", [UnreachableError("lost"), ConflictError(409, "Conflict", "changed")], ids=["answer lost", "conflict"]
)
async def test_a_creation_whose_answer_is_lost_makes_one_executor_not_two(error: Exception):
    world = OperatorWorld()
    lost = []

    def lose_first(call: Call) -> None:
        if (call.verb, call.plural) == ("create", "pods") and not lost:
            lost.append(call)
            raise UnreachableError("reset after the write")

    world.kube.after = lose_first
    ref = world.apply_pool()
    await world.settle(ref)
    assert len(world.pods()) == 3


async def test_the_finalizer_is_ours_alone_to_take_and_release():
    world = OperatorWorld()
    ref = world.apply_pool()
    pool = world.pool()
    pool["metadata"]["finalizers"] = ["someone/else"]
    world.kube.put(POOLS, "agents", pool)
    await world.settle(ref)
    assert world.pool()["metadata"]["finalizers"] == ["someone/else", FINALIZER]
    world.delete_pool()
    await world.settle(ref)
    assert world.pool()["metadata"]["finalizers"] == ["someone/else"]


async def test_a_crashing_image_fills_no_tier_and_is_mended_by_a_good_one():
    world = OperatorWorld()
    world.kubelet.crashing.add("crash:1")
    ref = world.apply_pool(replicas=3, pods={"max": 20, "image": "crash:1"})
    await world.settle(ref)
    assert len(world.pods()) == 3
    assert (world.condition("WarmPoolFilled")["reason"], world.status()["claimed"]) == ("Crashing", 0)
    world.apply_pool(replicas=3, pods={"max": 20})
    await world.settle(ref, rounds=20)
    assert (len(world.pods()), world.status()["readyReplicas"]) == (3, 3)


async def test_the_claim_secret_is_told_only_to_the_executor_it_belongs_to():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    forged = world.kubelet.executor_of(world.pods()[0])
    forged.secret_hash = "of another executor"
    world.apply_pool(replicas=0)
    await world.settle(ref)
    assert len(world.executors.secrets_heard) == 2, "two genuine ones were told theirs"
    assert len(world.pods()) == 1


async def test_executors_of_a_root_key_that_is_gone_are_replaced():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    old = set(world.pods())
    world.root_key = b"n" * 32
    world.reconciler = world.new_operator()
    await world.settle(ref, rounds=30)
    assert not old & set(world.pods())
    assert len(world.pods()) == 3


async def test_writes_that_keep_failing_are_repeated_ever_more_slowly_and_told():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)

    def refuse(call: Call) -> None:
        if (call.verb, call.plural) == ("delete", "pods"):
            raise ForbiddenError(403, "Forbidden", "a webhook says no")

    world.kube.before = refuse
    world.apply_pool(replicas=0)
    dues = []
    for _ in range(8):
        dues.append(await world.pass_once(ref))
        world.kubelet.step()
        world.now += dues[-1]
    assert dues[-1] > 10 * dues[0]
    assert "a webhook says no" in world.status()["tiers"][0]["message"]


async def test_a_pool_whose_stored_spec_is_no_longer_valid_can_be_deleted():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    world.apply_pool(tiers=[{"name": "local", "pods": {"max": 2, "warm": 5}}])
    world.delete_pool()
    assert await world.settle(ref) is None
    assert (world.pods(), world.kube.peek(POOLS)) == ([], ())


async def test_without_network_policies_no_executor_is_created_and_the_pool_says_why():
    world = OperatorWorld()

    def refuse(call: Call) -> None:
        if (call.verb, call.plural) == ("create", "networkpolicies"):
            raise ForbiddenError(403, "Forbidden", "policies are not yours to make")

    world.kube.before = refuse
    ref = world.apply_pool()
    await world.pass_once(ref)
    await world.pass_once(ref)
    assert world.pods() == []
    assert "policies are not yours to make" in world.condition("WarmPoolFilled")["message"]


async def test_the_policy_of_a_dropped_tier_goes_and_the_plan_comes_to_rest():
    world = OperatorWorld()
    two = [{"name": "a", "pods": {"max": 2}}, {"name": "b", "pods": {"max": 2}}]
    ref = world.apply_pool(tiers=two, scaledTier="a", replicas=1)
    await world.settle(ref)
    world.apply_pool(tiers=two[:1], replicas=1)
    await world.settle(ref)
    assert len(world.kube.peek(NETWORK_POLICIES)) == 1
    before = len(world.kube.writes())
    await world.settle(ref, rounds=3)
    assert len(world.kube.writes()) == before


async def test_a_drain_writes_no_status_every_second():
    world = OperatorWorld()
    ref = world.apply_pool(deletion={"policy": "Drain", "timeoutSeconds": 86400})
    await world.settle(ref)
    world.kubelet.executor_of(world.pods()[0]).claim("p1", running=1)
    world.delete_pool()
    await world.settle(ref)
    world.kube.calls.clear()
    await world.settle(ref, rounds=10)
    assert [call for call in world.kube.writes() if call.plural == "executionpools"] == []


async def test_an_event_that_has_expired_is_written_anew():
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    for event in world.kube.peek(EVENTS):
        world.kube.drop(EVENTS, "agents", event["metadata"]["name"])
    world.apply_pool(suspend=True)
    await world.settle(ref)
    world.apply_pool()
    await world.settle(ref)
    assert "Serving" in {event["reason"] for event in world.kube.peek(EVENTS)}


@pytest.mark.parametrize(
    "odd", [{"egress": []}, {"claim": 5}, {"claim": {"epoch": float("inf")}}, {"phase": []}, {"pod_uid": 7}]
)
async def test_a_hostile_state_neither_stops_its_pool_nor_counts_as_warm(odd: dict):
    world = OperatorWorld()
    ref = world.apply_pool()
    await world.settle(ref)
    hostile = world.kubelet.executor_of(world.pods()[0])
    hostile.claim("p1", running=1)
    hostile.says = odd
    await world.settle(ref, rounds=4)
    assert world.status()["readyReplicas"] == 3
