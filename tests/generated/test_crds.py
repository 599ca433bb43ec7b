"""Generated files are what the models say, and the CRDs keep the house's promises to `kubectl explain` and to tools."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from execpool.api.crd import KEY, KINDS, POOL, Kind, crd
from execpool.api.generate import BEGIN, CHECKOUT, COMMAND, END, crd_yaml, field_table, main, stale, with_table

Schema = dict[str, Any]


def version(kind: Kind) -> dict[str, Any]:
    return crd(kind)["spec"]["versions"][0]


def fields(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    for name, node in schema.get("properties", {}).items():
        yield f"{path}.{name}", node
        yield from fields(node, f"{path}.{name}")
        yield from fields(node.get("items", {}), f"{path}.{name}[]")


def own_fields(kind: Kind) -> list[tuple[str, Schema]]:
    root = version(kind)["schema"]["openAPIV3Schema"]
    return [(path, node) for path, node in fields(root) if not path.startswith(".metadata")]


def test_generated_files_are_current():
    names = [str(path.relative_to(CHECKOUT)) for path in stale()]
    assert names == [], f"out of date: run `{COMMAND}`"


def test_the_check_names_what_to_run_and_the_run_makes_the_check_pass(tmp_path, capsys):
    assert main(["--check"], tmp_path) == 1
    assert f"crds/{POOL.crd_name}.yaml is out of date: run `{COMMAND}`" in capsys.readouterr().out.splitlines()
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0


def test_a_crd_that_no_model_has_is_named_and_left_to_a_person(tmp_path, capsys):
    main([], tmp_path)
    (tmp_path / "crds" / "old.yaml").write_text("")
    capsys.readouterr()
    assert main([], tmp_path) == 1
    assert capsys.readouterr().out == "crds/old.yaml is the CRD of no model: delete it\n"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_file_is_the_crd_without_anchors_and_says_where_it_comes_from(kind: Kind):
    text = crd_yaml(kind)
    assert yaml.safe_load(text) == crd(kind)
    assert text.startswith("# Generated")
    assert COMMAND in text.splitlines()[0]
    assert "&id" not in text


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_described(kind: Kind):
    assert [path for path, node in own_fields(kind) if not node.get("description", "").endswith((".", ")"))] == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_list_and_map_of_a_spec_is_bounded(kind: Kind):
    unbounded = [
        path
        for path, node in own_fields(kind)
        if (node.get("type") == "array" and "maxItems" not in node)
        or ("additionalProperties" in node and "maxProperties" not in node)
    ]
    assert unbounded == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_list_of_named_objects_is_a_map_list(kind: Kind):
    plain = [
        path
        for path, node in own_fields(kind)
        if {"name", "type"} & set(node.get("items", {}).get("required", ())) and "x-kubernetes-list-type" not in node
    ]
    assert plain == []


def test_no_enum_value_is_a_boolean_to_yaml():
    values = [value for kind in KINDS for _, node in own_fields(kind) for value in node.get("enum", ())]
    assert [value for value in values if value and not isinstance(yaml.safe_load(value), str)] == []


def test_a_pool_can_be_scaled_and_a_key_cannot():
    assert version(POOL)["subresources"]["scale"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    assert version(KEY)["subresources"] == {"status": {}}


def test_a_pool_that_says_nothing_of_replicas_can_be_scaled_too():
    spec = version(POOL)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert spec["properties"]["replicas"]["default"] == 1


def test_the_columns_answer_healthy_how_warm_how_busy_and_wide_why_not():
    columns = version(POOL)["additionalPrinterColumns"]
    assert [column["name"] for column in columns if "priority" not in column] == [
        "Ready",
        "Warm",
        "Claimed",
        "Desired",
        "Age",
    ]
    assert [column["name"] for column in columns if column.get("priority") == 1] == ["Reason", "Message"]


def test_short_names_do_not_shadow_those_of_kubernetes():
    names = [crd(kind)["spec"]["names"] for kind in KINDS]
    assert [name["shortNames"] for name in names] == [["e2bacct"], ["e2bsb"], ["exkey"], ["expool"]]
    assert all(name["categories"] == ["execution"] for name in names)


def test_the_readme_gets_its_table_between_the_markers_and_nothing_else_changes():
    readme = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(readme) == f"before\n{BEGIN}\n{field_table()}\n{END}\nafter\n"
    assert with_table("no markers") == "no markers"


def test_the_table_has_a_row_for_every_field_of_a_pool():
    rows = field_table().splitlines()
    assert (
        "| `tiers[].pods.max` | integer 1-1000 |  | Most executors at any time: warm, claimed and terminating together. Required. |"
        in rows
    )
    assert len(rows) == 2 + sum(path.startswith(".spec.") for path, _ in own_fields(POOL))


def test_the_base_installs_every_crd():
    listed = yaml.safe_load((CHECKOUT / "crds" / "Kustomization").read_text(encoding="utf-8"))["resources"]
    assert sorted(listed) == sorted(f"{kind.crd_name}.yaml" for kind in KINDS)
