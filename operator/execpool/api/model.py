"""The base of every API model: strict when a person writes, lenient when an older operator reads a newer object.

A cross-field rule is written once, as a `Rule`: its CEL text goes into the CRD, where the API server applies it, and its
`holds` is applied by pydantic, so that `execpool` commands and the operator refuse the same specs with the same words.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

_RULE_ERROR = "rule"


@dataclass(frozen=True)
class Rule:
    """One cross-field rule, in two languages.

    Attributes:
        cel: expression over `self`, as the API server evaluates it.
        message: one sentence that names the fields and says what would be right.
        holds: the same expression in Python.
        field_path: the field to blame, relative to the model (`.max`); empty blames the model.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool]
    field_path: str = ""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a document: where, in the API server's notation, and what."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class Model(BaseModel):
    """A value of the API: camelCase on the wire, frozen, documented field by field."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in type(self).rules:
            if not rule.holds(self):
                context = {"message": rule.message, "field_path": rule.field_path}
                raise PydanticCustomError(_RULE_ERROR, "{message}", context)
        return self

    @classmethod
    def read(cls, wire: Mapping[str, Any]) -> Self:
        """Read an object from the API server, ignoring fields that a newer release may have added."""
        return cls.model_validate(wire, extra="ignore")

    def wire(self) -> dict[str, Any]:
        """Return the JSON object as the API server stores it: camelCase, absent instead of null."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


def faults(error: ValidationError, root: str = "spec") -> list[Fault]:
    """Return what pydantic found, each with the path that the API server would name (`spec.tiers[0].pods.warm`)."""
    return [_fault(detail, root) for detail in error.errors(include_url=False, include_input=False)]


def _fault(detail: Mapping[str, Any], root: str) -> Fault:
    # A map's key is the map's fault: the API server has no path for a key.
    location = detail["loc"][:-2] if detail["loc"][-1:] == ("[key]",) else detail["loc"]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    blamed = detail.get("ctx", {}).get("field_path", "") if detail["type"] == _RULE_ERROR else ""
    return Fault(root + "".join(steps) + blamed, detail["msg"])
