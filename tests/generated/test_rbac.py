"""The shipped roles hold what the code uses and nothing else: every call of the API client is looked up in them.

What cannot be seen in our source, because kopf does it, is in BY_KOPF with its reason.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from execpool.api.generate import CHECKOUT
from execpool.kube import kinds

Grant = tuple[str, str]
"""Resource (with its subresource) and verb."""

SOURCE = CHECKOUT / "operator" / "execpool"
BASE = CHECKOUT / "manifests" / "base"
VERBS = {"get", "list", "create", "patch", "delete"}
PARTS = {"operator": ("controller", "providers"), "gateway": ("gateway",)}
BY_KOPF: dict[str, set[Grant]] = {
    # The watches behind `@kopf.on.event`.
    "operator": {
        (resource, verb)
        for resource in ("executionpools", "e2baccounts", "e2bsandboxes", "pods")
        for verb in ("list", "watch")
    },
    "gateway": set(),
}


def calls(file: Path) -> Iterator[Grant]:
    """Yield the grants that a module needs: `kube.VERB(KIND, ...)` and `Reflector(kube, KIND, ...)`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        named = [argument.id for argument in node.args if isinstance(argument, ast.Name) and argument.id.isupper()]
        resources = [
            getattr(kinds, name).plural for name in named if isinstance(getattr(kinds, name, None), kinds.Kind)
        ]
        if isinstance(node.func, ast.Name) and node.func.id == "Reflector":
            yield from ((resource, verb) for resource in resources for verb in ("list", "watch"))
        if isinstance(node.func, ast.Attribute) and node.func.attr in VERBS:
            yield from ((f"{resource}{subresource(node)}", node.func.attr) for resource in resources)


def subresource(call: ast.Call) -> str:
    named = [keyword.value for keyword in call.keywords if keyword.arg == "subresource"]
    return f"/{ast.literal_eval(named[0])}" if named else ""


def granted(part: str) -> set[Grant]:
    roles = [role for role in documents(f"rbac-{part}.yaml") if role["kind"] in ("Role", "ClusterRole")]
    return {
        (resource, verb)
        for role in roles
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


WHERE_BOUND = {("secrets", "get")}
"""What the operator may do only in namespaces where an admin binds `execpool-e2b-credentials`."""


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((BASE / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("part", PARTS)
def test_a_role_grants_what_the_code_calls_and_no_more(part: str):
    files = [file for folder in PARTS[part] for file in (SOURCE / folder).rglob("*.py")]
    used = ({grant for file in files for grant in calls(file)} | BY_KOPF[part]) - WHERE_BOUND
    assert sorted(granted(part) - used) == [], "granted and not used"
    assert sorted(used - granted(part)) == [], "used and not granted"


@pytest.mark.parametrize("part", PARTS)
def test_no_role_has_wildcards_or_reads_secrets(part: str):
    grants = granted(part)
    assert not [grant for grant in grants if "*" in grant]
    assert not [grant for grant in grants if grant[0] in {"secrets", "pods/exec", "pods/log", "nodes"}]


def test_secrets_are_read_by_name_and_only_where_somebody_bound_the_role():
    role, binding = documents("rbac-e2b-credentials.yaml")
    assert [(rule["resources"], rule["verbs"]) for rule in role["rules"]] == [(["secrets"], ["get"])]
    assert (binding["kind"], binding["metadata"]["namespace"]) == ("RoleBinding", "execpool-system")
    assert not [
        one
        for file in BASE.glob("rbac-*.yaml")
        for one in documents(file.name)
        if one["kind"] == "ClusterRoleBinding" and one["roleRef"]["name"] == role["metadata"]["name"]
    ]


def test_only_the_operator_writes_records_of_sandboxes_for_people_see_them():
    rules = [rule for role in documents("rbac-users.yaml") for rule in role["rules"]]
    verbs = {verb for rule in rules if "e2bsandboxes" in rule["resources"] for verb in rule["verbs"]}
    assert verbs == {"get", "list", "watch"}
