"""The models refuse what the API server refuses (tests/e2e/test_invalid_specs.py), and blame the same field."""

import pytest
import yaml
from pydantic import ValidationError
from tests import api_examples
from tests.api_examples import Invalid

from execpool.api.crd import KINDS
from execpool.api.model import Model, faults
from execpool.api.v1alpha1 import ExecutionPoolSpec

MODELS = {kind.name: kind.spec for kind in KINDS}
VALID = [
    pytest.param(MODELS[kind], text, id=f"{kind}, {name}")
    for kind, texts in api_examples.VALID.items()
    for name, text in texts.items()
]
INVALID = [
    pytest.param(MODELS[kind], case, id=f"{kind}, {case.name}")
    for kind, cases in api_examples.INVALID.items()
    for case in cases
]


@pytest.mark.parametrize(("model", "text"), VALID)
def test_a_right_spec_is_read_and_written_back_the_same(model: type[Model], text: str):
    spec = model.model_validate(yaml.safe_load(text))
    assert model.model_validate(spec.wire()) == spec


@pytest.mark.parametrize(("model", "case"), INVALID)
def test_a_wrong_spec_is_refused_and_its_field_named(model: type[Model], case: Invalid):
    with pytest.raises(ValidationError) as refused:
        model.model_validate(yaml.safe_load(case.spec))
    assert case.path in [fault.path for fault in faults(refused.value)]


def test_a_fault_reads_as_path_and_sentence():
    with pytest.raises(ValidationError) as refused:
        ExecutionPoolSpec.model_validate({"scaledTier": "gpu", "tiers": [{"name": "local", "pods": {"max": 1}}]})
    assert [str(fault) for fault in faults(refused.value)] == [
        "spec.scaledTier: scaledTier must be the name of one of the tiers"
    ]


def test_an_object_of_a_newer_release_is_read_without_its_new_fields():
    wire = {"tiers": [{"name": "local", "pods": {"max": 1, "later": {}}, "later": 1}], "later": True}
    assert ExecutionPoolSpec.read(wire).wire()["tiers"][0]["name"] == "local"


def test_absent_values_are_absent_on_the_wire_and_not_null():
    spec = ExecutionPoolSpec.model_validate({"tiers": [{"name": "local", "pods": {"max": 1}}]})
    assert "scaledTier" not in spec.wire()
    assert "warm" not in spec.wire()["tiers"][0]["pods"]


def test_the_scaled_tier_takes_its_warm_count_from_replicas():
    spec = ExecutionPoolSpec.model_validate(
        {
            "replicas": 2,
            "scaledTier": "a",
            "tiers": [{"name": "a", "pods": {"max": 3}}, {"name": "b", "pods": {"max": 3, "warm": 1}}],
        }
    )
    assert [spec.warm(tier) for tier in spec.tiers] == [2, 1]
