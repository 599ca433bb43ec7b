"""A wrong spec is refused by the API server, and the answer names the field: no webhook, no operator needed."""

import textwrap

import pytest
from tests import api_examples
from tests.api_examples import INVALID_NAMES, VALID_POOLS, Invalid

from execpool.api.crd import KINDS
from execpool.api.generate import CHECKOUT

pytestmark = pytest.mark.cluster

POOL = "ExecutionPool"
LEAST = next(iter(VALID_POOLS.values()))
INVALID = [
    pytest.param(kind, case, id=f"{kind}, {case.name}")
    for kind, cases in api_examples.INVALID.items()
    for case in cases
]
VALID = [
    pytest.param(kind, text, id=f"{kind}, {name}")
    for kind, texts in api_examples.VALID.items()
    for name, text in texts.items()
]


def document(kind: str, spec: str, name: str = "example") -> str:
    head = f"apiVersion: execpool.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"
    return head + textwrap.indent(spec.strip(), "  ")


@pytest.fixture(scope="module")
def crds(cluster):
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(CHECKOUT / "crds"))
    for kind in KINDS:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{kind.crd_name}", "--timeout=30s")
    return cluster


def answer_to(cluster, text: str, *options: str) -> str:
    """Return what kubectl says when it applies a document that must be refused."""
    with pytest.raises(Exception, match="exited with 1") as refused:
        cluster.kubectl("apply", "-n", "default", *options, "-f", "-", stdin=text)
    return str(refused.value)


@pytest.mark.parametrize(("kind", "case"), INVALID)
def test_a_wrong_spec_is_refused_and_its_field_named(crds, kind: str, case: Invalid):
    assert case.server_path in answer_to(crds, document(kind, case.spec))


@pytest.mark.parametrize(("kind", "text"), VALID)
def test_a_right_spec_is_taken(crds, kind: str, text: str):
    told = crds.kubectl("apply", "-n", "default", "--dry-run=server", "-f", "-", stdin=document(kind, text))
    assert "(server dry run)" in told


@pytest.mark.parametrize("name", [pytest.param(name, id=why) for why, name in INVALID_NAMES.items()])
def test_a_name_that_cannot_be_a_label_is_refused(crds, name: str):
    assert "metadata.name" in answer_to(crds, document(POOL, LEAST, name))


def test_a_pool_can_be_scaled_within_the_schema_and_not_beyond(crds, namespace: str):
    crds.kubectl("apply", "-n", namespace, "-f", "-", stdin=document(POOL, LEAST, "scaled"))
    crds.kubectl("scale", "-n", namespace, "expool/scaled", "--replicas=8")
    shown = crds.kubectl("get", "-n", namespace, "expool/scaled", "-o", "jsonpath={.spec.replicas}")
    assert shown == "8"
    with pytest.raises(Exception, match=r"spec\.replicas"):
        crds.kubectl("scale", "-n", namespace, "expool/scaled", "--replicas=1001")
    # Without a finalizer: no operator may be running here.
    crds.kubectl("delete", "-n", namespace, "expool/scaled", "--wait=false")


def test_kubectl_explain_tells_what_a_field_means(crds):
    assert "terminating together" in crds.kubectl("explain", "expool.spec.tiers.pods.max")


def test_pools_are_found_by_their_category(crds):
    assert "executionpools" in crds.kubectl("api-resources", "--categories=execution", "-o", "name")
