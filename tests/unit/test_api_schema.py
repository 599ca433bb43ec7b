"""What becomes of each keyword on the way to a structural schema, and what refuses to become one."""

from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, StringConstraints

from execpool.api.fields import LabelKey, Quantity, list_map
from execpool.api.model import Model, Rule
from execpool.api.schema import UnrepresentableError, structural


class Colour(StrEnum):
    """A colour."""

    RED = "Red"
    BLUE = "Blue"


class Inner(Model):
    """An inner value."""

    name: str
    """Its name."""


class Everything(Model):
    """A model
    of everything."""

    rules = (
        Rule("self.low < self.high", "low must be below high", lambda self: self.low < self.high, ".low"),
        Rule("true", "always", lambda _: True),
    )

    low: Annotated[int, Field(gt=0, lt=10)] = 1
    """Lowest
    of all."""
    high: int = 3
    """Highest."""
    long: Annotated[int, Field(ge=0, le=2**40)] = 0
    """A long one."""
    inner: Inner
    """One of them."""
    described_by_itself: Inner
    optional: Inner | None = None
    """Perhaps one."""
    colour: Colour = Colour.RED
    """Which colour."""
    fixed: Literal["Only"] = "Only"
    """Always the same."""
    size: Quantity = "1"
    """How big."""
    several: Annotated[list[Inner], Field(max_length=3, json_schema_extra=list_map("name"))]
    """Some."""
    labels: dict[LabelKey, str] = Field(default_factory=dict)
    """By key."""


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return structural(Everything)


def field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return schema["properties"][name]


def test_references_are_inlined_and_the_fields_own_description_wins(schema):
    inner = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"description": "Its name.", "type": "string"}},
    }
    assert field(schema, "inner") == {"description": "One of them.", **inner}
    assert field(schema, "describedByItself") == {"description": "An inner value.", **inner}


def test_an_optional_field_is_the_field_without_null_and_without_default(schema):
    assert field(schema, "optional")["description"] == "Perhaps one."
    assert "default" not in field(schema, "optional")
    assert "optional" not in schema["required"]


def test_exclusive_bounds_become_flags_beside_the_bound(schema):
    bounds = {"minimum": 0, "exclusiveMinimum": True, "maximum": 10, "exclusiveMaximum": True}
    assert bounds.items() <= field(schema, "low").items()


def test_integers_say_how_wide_they_are(schema):
    formats = {name: field(schema, name)["format"] for name in ("low", "high", "long")}
    assert formats == {"low": "int32", "high": "int64", "long": "int64"}


def test_a_quantity_is_an_integer_or_a_string_with_a_pattern(schema):
    size = field(schema, "size")
    assert size["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert size["x-kubernetes-int-or-string"] is True
    assert "type" not in size
    assert size["pattern"].startswith("^")


def test_enums_and_constants_are_enums(schema):
    assert field(schema, "colour")["enum"] == ["Red", "Blue"]
    assert field(schema, "fixed")["enum"] == ["Only"]


def test_rules_are_validations_of_their_model_and_stay_in_order(schema):
    assert schema["x-kubernetes-validations"] == [
        {"rule": "self.low < self.high", "message": "low must be below high", "fieldPath": ".low"},
        {"rule": "true", "message": "always"},
    ]


def test_bounds_on_the_keys_of_a_map_become_a_rule(schema):
    labels = field(schema, "labels")
    assert labels["x-kubernetes-validations"] == [
        {"rule": "self.all(k, k.size() <= 253)", "message": "keys must have at most 253 characters"}
    ]
    assert labels["additionalProperties"] == {"type": "string"}


def test_lists_keep_their_merge_keys(schema):
    assert {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}.items() <= field(
        schema, "several"
    ).items()


def test_a_description_is_one_line(schema):
    assert schema["description"] == "A model of everything."
    assert field(schema, "low")["description"] == "Lowest of all."


def test_a_status_has_no_defaults():
    assert all("default" not in node for node in structural(Everything, defaults=False)["properties"].values())


class Recursive(Model):
    again: "Recursive | None" = None


UNREPRESENTABLE = [
    pytest.param(int | str, "unions", id="a union"),
    pytest.param(Inner | Everything | None, "unions", id="a union of models"),
    pytest.param(tuple[int, str], "tuples", id="a tuple"),
    pytest.param(
        dict[Annotated[str, StringConstraints(pattern="^a")], str], "patternProperties", id="a map with a key pattern"
    ),
    pytest.param(float, "floats", id="a float"),
    pytest.param(dict[str, Any], "free-form", id="a free-form map"),
    pytest.param(Any, "no type", id="anything"),
    pytest.param(None, "no type", id="nothing"),
    pytest.param(list[Any], "no type", id="a list of anything"),
    pytest.param(set[str], "uniqueItems", id="a set, whose keyword the API server refuses"),
    pytest.param(
        Annotated[str, Field(json_schema_extra={"contentEncoding": "base64"})],
        "contentEncoding",
        id="an unknown keyword",
    ),
    pytest.param(list[Recursive], "contains itself", id="a model that contains itself"),
]


@pytest.mark.parametrize(("kind", "why"), UNREPRESENTABLE)
def test_what_has_no_structural_schema_is_refused_and_named(kind: Any, why: str):
    model = type("Holder", (Model,), {"__annotations__": {"wrong": kind}, "__module__": __name__})
    with pytest.raises(UnrepresentableError, match=why) as refused:
        structural(model)
    assert str(refused.value).startswith("Holder.wrong")
