"""Documents name files that exist and verbs that are granted; what they promise is where they say it is."""

import re

import pytest
import yaml

from execpool.api.generate import CHECKOUT

DOCUMENTS = [
    CHECKOUT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/security.md",
        "docs/budgets.md",
        "examples/workload/README.md",
    )
    if (CHECKOUT / name).exists()
]
PATH = re.compile(r"\b(?:operator|tests|docs|manifests|examples|crds)/[\w./*-]*[\w*]")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_that_a_document_names_exists(document):
    named = set(PATH.findall(document.read_text(encoding="utf-8")))
    assert [path for path in sorted(named) if not list(CHECKOUT.glob(path))] == []


@pytest.mark.parametrize("part", ["operator", "gateway"])
def test_every_resource_of_a_role_has_its_reason(part: str):
    text = (CHECKOUT / "docs" / "security.md").read_text(encoding="utf-8")
    table = text.split("## Why each verb is there")[1].split("\n## ")[0]
    roles = yaml.safe_load_all((CHECKOUT / "manifests" / "base" / f"rbac-{part}.yaml").read_text(encoding="utf-8"))
    resources = {resource for role in roles for rule in role.get("rules", ()) for resource in rule["resources"]}
    assert [resource for resource in sorted(resources) if resource not in table] == []


def test_every_workload_program_is_in_its_table():
    folder = CHECKOUT / "examples" / "workload"
    table = (folder / "README.md").read_text(encoding="utf-8")
    programs = [str(path.relative_to(folder)) for path in folder.glob("user-*/*.py")]
    assert len(programs) == 12
    assert [program for program in programs if f"| {program} |" not in table] == []


def test_every_workload_program_asks_a_question_and_ends_in_an_expression():
    import ast

    for path in (CHECKOUT / "examples" / "workload").glob("user-*/*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        question = ast.get_docstring(tree) or ""
        assert "?" in question, path.name
        assert "\n" not in question, path.name
        assert isinstance(tree.body[-1], ast.Expr), path.name


def test_the_page_on_budgets_has_every_resource_and_names_metrics_that_exist():
    from prometheus_client import REGISTRY

    from execpool.api.budgets import BudgetResource
    from execpool.telemetry import metrics

    assert metrics
    page = (CHECKOUT / "docs" / "budgets.md").read_text(encoding="utf-8")
    assert [one for one in BudgetResource if f"| `{one}` |" not in page] == []
    known = {family.name for family in REGISTRY.collect()}
    named = {name.removesuffix("_total") for name in re.findall(r"\bexecpool_[a-z0-9_]+", page)}
    assert sorted(named - known) == []
