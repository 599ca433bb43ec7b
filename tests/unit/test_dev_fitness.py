"""What of a pool processes of this machine cannot give: refused with the way out, told, or lacking in general."""

from typing import Any

import pytest

from execpool.api.v1alpha1 import ExecutionPoolSpec
from execpool.dev.declared import read
from execpool.dev.fitness import Machine, idle, lacks, misfits


def spec(**pods: Any) -> ExecutionPoolSpec:
    return ExecutionPoolSpec.model_validate({"tiers": [{"name": "local", "pods": {"max": 4, **pods}}]})


@pytest.mark.parametrize(
    ("pods", "sentence"),
    [
        ({"runtimeClassName": "gvisor"}, "spec.tiers[0].pods.runtimeClassName is 'gvisor': "),
        ({"network": "Egress"}, "spec.tiers[0].pods.network is 'Egress': "),
        ({"image": "example/own:1"}, "spec.tiers[0].pods.image is 'example/own:1': "),
    ],
)
def test_what_a_tier_would_promise_and_not_keep_is_refused_with_the_way_out(pods: dict[str, Any], sentence: str):
    (said,) = misfits(spec(**pods))
    assert said.startswith(sentence)
    assert "leave it out" in said


def test_a_tier_of_sandboxes_is_refused():
    tiers = [{"name": "e2b", "e2b": {"accountRef": {"name": "main"}, "max": 4}}]
    (said,) = misfits(ExecutionPoolSpec.model_validate({"tiers": tiers}))
    assert said.startswith("spec.tiers[0].e2b: ")


def test_the_pool_that_comes_with_it_fits():
    (default,) = read(None).specs
    assert (list(misfits(default)), list(idle(default))) == ([], [])


def test_what_makes_no_difference_is_told():
    told = spec(resources={"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}, podTemplate={"labels": {"team": "a"}})
    assert list(misfits(told)) == []
    assert list(idle(told)) == [
        "spec.tiers[0].pods.podTemplate",
        "spec.tiers[0].pods.resources.limits.cpu",
        "spec.tiers[0].pods.resources.requests",
    ]


@pytest.mark.parametrize(
    ("machine", "sentences", "word"),
    [
        (Machine(uid=1000, landlock=7, private_places=True), 3, "you (uid 1000)"),
        (Machine(uid=0, landlock=7, private_places=True), 4, "another user's account is a better place"),
        (Machine(uid=1000, landlock=7, private_places=False), 4, "a /dev/shm that all programs share"),
        (Machine(uid=1000, landlock=5, private_places=True), 4, "Landlock has version 5 here"),
    ],
)
def test_what_is_lacking_depends_on_the_machine(machine: Machine, sentences: int, word: str):
    said = lacks(machine)
    assert len(said) == sentences
    assert word in " ".join(said)
