"""Turns a pydantic model into the structural OpenAPI v3 schema that a CRD needs. Pure.

JSON Schema, as pydantic writes it, says more than a structural schema may. What has an equivalent is translated; what
has none (unions, tuples, floats, free-form values) raises, so that a model which the API server would refuse, or worse
would silently prune, fails in a unit test. Keywords are an allow-list for the same reason.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from execpool.api.model import Model, Rule

Schema = dict[str, Any]

VALIDATIONS = "x-kubernetes-validations"
INT_OR_STRING = "x-kubernetes-int-or-string"
_INT32_MAX = 2**31 - 1
_DROPPED = frozenset({"title", "discriminator"})
# In the order in which they are written, so that a reader of the YAML meets the meaning before the bounds.
_KEYWORDS = (
    "description type format enum default pattern minLength maxLength minimum exclusiveMinimum maximum "
    "exclusiveMaximum multipleOf minItems maxItems minProperties maxProperties anyOf "
    f"{INT_OR_STRING} x-kubernetes-list-type x-kubernetes-list-map-keys {VALIDATIONS} "
    "required properties items additionalProperties"
).split()
_SCALARS = frozenset({"string", "integer", "boolean"})


class UnrepresentableError(TypeError):
    """A model that no structural schema can describe; the message names the field."""


def structural(model: type[Model], *, defaults: bool = True) -> Schema:
    """Return the schema of a model.

    `defaults=False` leaves out default values: a status says what was observed, and the API server must not add to it.
    """
    raw = model.model_json_schema(schema_generator=_WithRules)
    return _Translation(raw.pop("$defs", {}), defaults=defaults).node(raw, (model.__name__,))


class _WithRules(GenerateJsonSchema):
    """pydantic's generator, which also writes down the rules of each model."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        json_schema = super().model_schema(schema)
        rules: tuple[Rule, ...] = getattr(schema["cls"], "rules", ())
        return json_schema | {VALIDATIONS: [_validation(rule) for rule in rules]} if rules else json_schema


def _validation(rule: Rule) -> dict[str, str]:
    path = {"fieldPath": rule.field_path} if rule.field_path else {}
    return {"rule": rule.cel, "message": rule.message} | path


class _Translation:
    """One walk over one model's JSON schema; `path` is the way to the node, for error messages."""

    def __init__(self, definitions: Mapping[str, Schema], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def node(self, raw: Schema, path: tuple[str, ...]) -> Schema:
        """Translate one node and everything below it."""
        flat = self._flattened(raw, path)
        translated = {key: value for key, value in flat.items() if key not in _DROPPED}
        for translate in (_describe, _order_rules, _fix_const, _fix_bounds, _fix_quantity, _fix_integer, _fix_keys):
            translate(translated)
        self._fix_default(translated)
        self._descend(translated, path)
        _refuse(translated, path)
        return {key: translated[key] for key in _KEYWORDS if key in translated}

    def _flattened(self, raw: Schema, path: tuple[str, ...]) -> Schema:
        """Inline references and take `X | None` as an optional X: absence is the API's null."""
        flat = dict(raw)
        seen: set[str] = set()
        while "$ref" in flat or _is_optional(flat):
            if "$ref" not in flat:
                (only,) = (choice for choice in flat.pop("anyOf") if choice != {"type": "null"})
                flat = only | flat
                continue
            name = str(flat.pop("$ref")).removeprefix("#/$defs/")
            if name in seen or f"<{name}>" in path:
                raise UnrepresentableError(f"{_dotted(path)}: {name} contains itself")
            seen.add(name)
            flat = self._definitions[name] | flat
        flat["$path"] = tuple(f"<{name}>" for name in seen)
        return flat

    def _descend(self, node: Schema, path: tuple[str, ...]) -> None:
        inside = (*path, *node.pop("$path", ()))
        if "properties" in node:
            node["properties"] = {name: self.node(child, (*inside, name)) for name, child in node["properties"].items()}
        if isinstance(node.get("items"), dict):
            node["items"] = self.node(node["items"], (*inside, "[]"))
        if node.get("additionalProperties") is False:
            del node["additionalProperties"]
        if isinstance(node.get("additionalProperties"), dict):
            node["additionalProperties"] = self.node(node["additionalProperties"], (*inside, "{}"))

    def _fix_default(self, node: Schema) -> None:
        if not self._defaults or node.get("default") is None:
            node.pop("default", None)


def _is_optional(node: Schema) -> bool:
    choices = node.get("anyOf", ())
    return len(choices) == 2 and {"type": "null"} in choices


def _describe(node: Schema) -> None:
    if "description" in node:
        node["description"] = " ".join(node["description"].split())


def _order_rules(node: Schema) -> None:
    """Put the rule first; pydantic sorts keys."""
    if VALIDATIONS in node:
        order = ("rule", "message", "fieldPath")
        node[VALIDATIONS] = [{key: rule[key] for key in order if key in rule} for rule in node[VALIDATIONS]]


def _fix_const(node: Schema) -> None:
    if "const" in node:
        node["enum"] = [node.pop("const")]


def _fix_bounds(node: Schema) -> None:
    """Exclusive bounds are flags beside the bound here, not bounds of their own."""
    for flag, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if flag in node:
            node[bound], node[flag] = node[flag], True


def _fix_quantity(node: Schema) -> None:
    """`cpu: 2` and `cpu: 500m` are both quantities. The pattern binds the text alone, so the number needs its own bound."""
    if node.get(INT_OR_STRING):
        del node["type"]
        node["anyOf"] = [{"type": "integer"}, {"type": "string"}]
        node["minimum"] = 1


def _fix_integer(node: Schema) -> None:
    if node.get("type") == "integer":
        fits = node.get("minimum", -_INT32_MAX) >= -_INT32_MAX and node.get("maximum", _INT32_MAX + 1) <= _INT32_MAX
        node["format"] = "int32" if fits else "int64"


def _fix_keys(node: Schema) -> None:
    """Structural schemas do not know `propertyNames`; CEL says the same."""
    names = node.pop("propertyNames", {})
    checks = []
    if "maxLength" in names:
        checks.append((f"k.size() <= {names['maxLength']}", f"have at most {names['maxLength']} characters"))
    if "pattern" in names:
        checks.append((f"k.matches(r'{names['pattern']}')", f"match {names['pattern']}"))
    if checks:
        rule = f"self.all(k, {' && '.join(cel for cel, _ in checks)})"
        message = f"keys must {' and '.join(words for _, words in checks)}"
        node.setdefault(VALIDATIONS, []).append({"rule": rule, "message": message})


def _refuse(node: Schema, path: tuple[str, ...]) -> None:
    """Raise on whatever has no equivalent, after the translations have removed what has one."""
    checks: tuple[tuple[Callable[[Schema], bool], str], ...] = (
        (
            lambda n: "anyOf" in n and not n.get(INT_OR_STRING),
            "unions have no structural schema; use one field per choice",
        ),
        (lambda n: "prefixItems" in n, "tuples have no structural schema; use an object"),
        (lambda n: "patternProperties" in n, "patternProperties have no structural schema; bound the keys by a rule"),
        (lambda n: n.get("type") == "number", "the API has no floats; use an integer with its unit in the name"),
        (lambda n: n.get("additionalProperties") is True, "free-form values are pruned; declare the fields"),
        (lambda n: n.get("type") == "array" and "items" not in n, "lists need a type for their items"),
        (lambda n: n.get("type") not in {*_SCALARS, "object", "array"} and INT_OR_STRING not in n, "it has no type"),
    )
    for fails, why in checks:
        if fails(node):
            raise UnrepresentableError(f"{_dotted(path)}: {why}")
    if unknown := set(node) - set(_KEYWORDS):
        raise UnrepresentableError(f"{_dotted(path)}: no structural schema has {', '.join(sorted(unknown))}")


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(step for step in path if not step.startswith("<")).replace(".[]", "[]")
