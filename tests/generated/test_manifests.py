"""What is deployed is restricted, samples are valid, and the emulator is where operator, account and `up` look for it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from execpool.api.generate import CHECKOUT
from execpool.cli import up
from execpool.cli.accounts import LEDGER, choose_account, emulated
from execpool.providers.e2b.addresses import is_allowed
from execpool.settings import OperatorSettings

BASE = CHECKOUT / "manifests" / "base"
EMULATOR = CHECKOUT / "manifests" / "overlays" / "emulator"


@pytest.mark.parametrize(
    "file", [BASE / "operator.yaml", BASE / "gateway.yaml", EMULATOR / "emulator.yaml"], ids=lambda file: file.stem
)
def test_our_own_pods_run_restricted_and_read_only(file: Path):
    deployments = [one for one in yaml.safe_load_all(file.read_text(encoding="utf-8")) if one["kind"] == "Deployment"]
    pod = deployments[0]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= set(container)
    assert container["resources"]["limits"]["memory"]


def test_the_sample_pool_is_valid_and_holds_no_field_of_another_release():
    from execpool.api.v1alpha1 import ExecutionKeySpec, ExecutionPoolSpec

    samples = CHECKOUT / "manifests" / "samples"
    _, pool = yaml.safe_load_all((samples / "pool.yaml").read_text(encoding="utf-8"))
    key = yaml.safe_load((samples / "key.yaml").read_text(encoding="utf-8"))
    assert ExecutionPoolSpec.model_validate(pool["spec"]).replicas == 3
    assert ExecutionKeySpec.model_validate(key["spec"]).pools == [pool["metadata"]["name"]]


def sample(name: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    namespace, account, pool = yaml.safe_load_all(
        (CHECKOUT / "manifests" / "samples" / name).read_text(encoding="utf-8")
    )
    return namespace, account, pool


@pytest.mark.parametrize("name", ["e2b.yaml", "emulator.yaml"])
def test_a_sample_account_is_valid_and_allows_its_sample_pool(name: str):
    from execpool.api.v1alpha1 import E2BAccountSpec, ExecutionPoolSpec

    namespace, account, pool = sample(name)
    spec = ExecutionPoolSpec.model_validate(pool["spec"])
    (tier,) = [tier for tier in spec.tiers if tier.e2b is not None]
    ref = tier.as_e2b().account_ref
    assert (ref.namespace, ref.name) == (account["metadata"]["namespace"], account["metadata"]["name"])
    assert pool["metadata"]["namespace"] == namespace["metadata"]["name"]
    assert pool["metadata"]["namespace"] in E2BAccountSpec.model_validate(account["spec"]).allowed_namespaces


def test_up_makes_the_same_pool_on_either_account():
    assert sample("e2b.yaml")[2] == sample("emulator.yaml")[2]


def test_the_account_that_up_names_is_the_one_of_its_sample():
    for account in (emulated(), choose_account({"E2B_API_KEY": "e2b_ab"})):
        _, wire, pool = sample(account.sample.rpartition("/")[2])
        assert (wire["metadata"]["name"], wire["spec"]["credentialsSecret"]) == (up.ACCOUNT, account.secret)
        assert (pool["metadata"]["namespace"], pool["metadata"]["name"]) == (up.NAMESPACE, up.POOL)


def test_the_operator_admits_the_emulator_of_the_release_where_its_service_is():
    service = next(one for one in emulator() if one["kind"] == "Service")
    (port,) = service["spec"]["ports"]
    url = f"http://{service['metadata']['name']}.{service['metadata']['namespace']}:{port['port']}"
    assert sample("emulator.yaml")[1]["spec"]["apiUrl"] == url
    assert is_allowed(url, OperatorSettings().allowed_endpoints())


def test_the_emulators_port_for_admins_is_in_no_service_and_its_policy_admits_operator_and_gateway_alone():
    container = one_of("Deployment")["spec"]["template"]["spec"]["containers"][0]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["EXECPOOL_EMULATOR_ADMIN_HOST"] == "127.0.0.1"
    assert [port["targetPort"] for port in one_of("Service")["spec"]["ports"]] == ["http"]
    policy = one_of("NetworkPolicy")["spec"]
    (rule,) = policy["ingress"]
    assert [peer["podSelector"]["matchExpressions"][0]["values"] for peer in rule["from"]] == [["operator", "gateway"]]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])


def test_the_emulator_has_no_token_no_role_and_the_key_from_its_secret_alone():
    pod = one_of("Deployment")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert {one["kind"] for one in emulator()} == {"ServiceAccount", "Deployment", "Service", "NetworkPolicy"}
    keys = [one for one in pod["containers"][0]["env"] if one["name"] == "EXECPOOL_EMULATOR_API_KEYS"]
    assert keys[0]["valueFrom"] == {"secretKeyRef": {"name": emulated().secret, "key": "apiKey"}}
    assert variable("LEDGER") == LEDGER


def emulator() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((EMULATOR / "emulator.yaml").read_text(encoding="utf-8")))


def one_of(kind: str) -> dict[str, Any]:
    return next(one for one in emulator() if one["kind"] == kind)


def variable(name: str) -> str:
    container = one_of("Deployment")["spec"]["template"]["spec"]["containers"][0]
    return next(one["value"] for one in container["env"] if one["name"] == f"EXECPOOL_EMULATOR_{name}")
