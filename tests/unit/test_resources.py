"""The objects that the operator creates, checked against what must hold of them whatever a pool says."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.builders import pool, spec

from execpool import protocol
from execpool.api import names
from execpool.core.backoff import backoff
from execpool.core.proof import KeyRing, RootKey, principal_id
from execpool.core.quantity import parse_quantity
from execpool.kube.resources import (
    ExecutorIdentity,
    ExecutorProfile,
    make_executor_pod,
    make_network_policy,
    policy_name,
    template_hash,
)

PROFILE = ExecutorProfile("execpool-executor:1")
IDENTITY = ExecutorIdentity("agents-local-1", "id-1", "hash-1", "key-1")


def pod(**pods):
    owner = pool(spec=spec(pods=pods))
    return make_executor_pod(owner, owner.spec.tiers[0], PROFILE, IDENTITY)


def test_an_executor_pod_is_restricted_and_has_no_identity_in_the_cluster():
    built = pod()["spec"]
    assert (built["automountServiceAccountToken"], built["enableServiceLinks"], built["hostUsers"]) == (
        False,
        False,
        False,
    )
    assert built["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in built["containers"]:
        limits = container["securityContext"]
        assert (limits["allowPrivilegeEscalation"], limits["readOnlyRootFilesystem"]) == (False, True)
        assert limits["capabilities"] == {"drop": ["ALL"]}
    assert all("emptyDir" in volume and volume["emptyDir"]["sizeLimit"] for volume in built["volumes"])


def test_the_runner_sees_the_socket_read_only_and_neither_the_servers_state_nor_its_environment():
    server, runner = pod()["spec"]["containers"]
    mounts = {mount["name"]: mount for mount in runner["volumeMounts"]}
    assert (mounts["socket"]["readOnly"], "state" in mounts) == (True, False)
    assert protocol.ENV_SECRET_HASH in {item["name"] for item in server["env"]}
    assert protocol.ENV_SECRET_HASH not in {item["name"] for item in runner["env"]}
    assert server["securityContext"]["runAsUser"] != 1000


def test_an_executor_refuses_its_own_address_since_programs_in_the_pod_have_it_too():
    server, runner = pod()["spec"]["containers"]
    assert {"name": protocol.ENV_REFUSE_SELF, "value": "1"} in server["env"]
    assert protocol.ENV_REFUSE_SELF not in {item["name"] for item in runner["env"]}


def test_the_servers_memory_grows_with_the_answers_that_it_may_hold():
    limits = [pod(slots=slots)["spec"]["containers"][0]["resources"]["limits"] for slots in (1, 64)]
    assert limits == [{"memory": "264Mi"}, {"memory": "768Mi"}]


def test_egress_has_resolvers_of_its_own_and_no_way_to_platforms():
    owner = pool(spec=spec(pods={"network": "Egress"}))
    tier = owner.spec.tiers[0]
    profile = dataclasses.replace(PROFILE, resolvers=("192.0.2.1",))
    built = make_executor_pod(owner, tier, profile, IDENTITY)["spec"]
    assert (built["dnsPolicy"], built["dnsConfig"]) == ("None", {"nameservers": ["192.0.2.1"]})
    assert "dnsPolicy" not in make_executor_pod(owner, tier, PROFILE, IDENTITY)["spec"]
    assert template_hash(tier, profile) != template_hash(tier, PROFILE)
    v4, v6 = make_network_policy(owner, tier, "system")["spec"]["egress"][0]["to"]
    assert {"169.254.0.0/16", "168.63.129.16/32", "192.0.0.0/24"} <= set(v4["ipBlock"]["except"])
    assert "64:ff9b::/96" in v6["ipBlock"]["except"]


def test_an_executor_pod_has_no_owner_reference():
    assert "ownerReferences" not in pod()["metadata"]


def test_labels_of_a_pool_cannot_replace_ours():
    template = spec(pods={"podTemplate": {"labels": {"team": "a"}}}).tiers[0].pods.pod_template
    forged = template.model_copy(update={"labels": {names.LABEL_POOL_UID: "forged", "team": "a"}})
    owner = pool()
    tier = owner.spec.tiers[0]
    tier = tier.model_copy(update={"pods": tier.pods.model_copy(update={"pod_template": forged})})
    labels = make_executor_pod(owner, tier, PROFILE, IDENTITY)["metadata"]["labels"]
    assert (labels[names.LABEL_POOL_UID], labels["team"]) == ("pool-uid", "a")


@pytest.mark.parametrize(
    "change",
    [
        {"slots": 3},
        {"image": "x:2"},
        {"network": "Egress"},
        {"runtime": "Monty"},
        {"idleSeconds": 60},
        {"resources": {"limits": {"cpu": "2"}}},
    ],
)
def test_whatever_changes_a_pod_changes_its_template_hash(change: dict):
    assert template_hash(spec(pods=change).tiers[0], PROFILE) != template_hash(spec().tiers[0], PROFILE)


def test_sizing_changes_no_template_and_the_operators_image_does():
    tier = spec().tiers[0]
    assert template_hash(spec(pods={"max": 9}).tiers[0], PROFILE) == template_hash(tier, PROFILE)
    assert template_hash(tier, dataclasses.replace(PROFILE, image="execpool-executor:2")) != template_hash(
        tier, PROFILE
    )


def test_requests_never_exceed_limits():
    resources = pod(resources={"limits": {"cpu": "50m", "memory": "128Mi"}})["spec"]["containers"][1]["resources"]
    assert (resources["requests"], resources["limits"]) == (
        {"cpu": "50m", "memory": "128Mi"},
        {"cpu": "50m", "memory": "128Mi"},
    )


def test_a_policy_admits_gateway_and_operator_and_lets_nothing_out():
    owner = pool()
    policy = make_network_policy(owner, owner.spec.tiers[0], "execpool-system")["spec"]
    (rule,) = policy["ingress"]
    assert {peer["podSelector"]["matchLabels"]["app.kubernetes.io/name"] for peer in rule["from"]} == {
        "execpool-gateway",
        "execpool-operator",
    }
    assert (policy["egress"], policy["policyTypes"]) == ([], ["Ingress", "Egress"])


def test_egress_reaches_the_internet_without_private_and_metadata_addresses():
    owner = pool(spec=spec(pods={"network": "Egress"}))
    (rule,) = make_network_policy(owner, owner.spec.tiers[0], "execpool-system")["spec"]["egress"]
    spared = {cidr for to in rule["to"] for cidr in to["ipBlock"]["except"]}
    assert {"169.254.0.0/16", "10.0.0.0/8", "fd00::/8" if "fd00::/8" in spared else "fc00::/7"} <= spared


@given(st.text("abcdefghij-", min_size=1, max_size=63).filter(lambda name: name.strip("-") == name))
def test_policy_names_are_names_and_differ_between_tiers(name: str):
    owner = pool(name=name)
    assert len(policy_name(owner, "a" * 32)) <= 253
    assert policy_name(owner, "a") != policy_name(owner, "b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("2", 2),
        ("1Gi", 2**30),
        ("1.5Gi", 1.5 * 2**30),
        ("100k", 100_000),
        ("1M", 10**6),
        ("3Ti", 3 * 2**40),
    ],
)
def test_quantities_are_what_kubernetes_says(text: str, value: float):
    assert float(parse_quantity(text)) == value


@given(st.text(max_size=6), st.text(max_size=6), st.text(max_size=6), st.text(max_size=6))
def test_two_principals_have_one_name_only_if_they_are_one(tenant: str, user: str, other_tenant: str, other_user: str):
    same = (tenant, user) == (other_tenant, other_user)
    assert (principal_id(tenant, user) == principal_id(other_tenant, other_user)) == same


def test_claim_secrets_differ_by_pool_executor_and_generation_and_a_retired_generation_is_unknown():
    one, two = RootKey(b"1" * 32), RootKey(b"2" * 32)
    secrets = {key.claim_secret(pool_uid, executor) for key in (one, two) for pool_uid in "ab" for executor in "xy"}
    assert len(secrets) == 8
    ring = KeyRing((two, one))
    assert (ring.current, ring.named(one.key_id), ring.named("gone")) == (two, one, None)
    assert "1" * 8 not in repr(one)


@pytest.mark.parametrize("failures", [0, 1, 5, 1024, 10**6])
def test_a_backoff_grows_to_its_limit_and_no_number_of_failures_overflows_it(failures: int):
    assert 0.1 <= backoff(failures, 0.1, 5.0) <= 5.0
    assert backoff(failures + 1, 0.1, 5.0) >= backoff(failures, 0.1, 5.0)
