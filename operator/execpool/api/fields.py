"""Types of API fields: the bounds and patterns that the API server and pydantic both apply.

Every string, list and map is bounded, so that the cost of the schema's CEL rules can be estimated and one object cannot
grow to the size of etcd's limit.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
DNS_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
LABEL_KEY = r"^([a-z0-9][-a-z0-9.]*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
# Zero is refused: a container limit of 0 means "no limit" to the kubelet, the opposite of what its writer meant.
QUANTITY = r"^([0-9]*[1-9][0-9]*(\.[0-9]+)?|[0-9]+\.[0-9]*[1-9][0-9]*)(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei)?$"


def list_map(*keys: str) -> dict[str, Any]:
    """Return the schema extension of a list whose items are identified by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def _text_of_int(value: object) -> object:
    """Read `cpu: 2` as the quantity "2"; a boolean is an int to Python but not to the API."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


TierName = Annotated[str, StringConstraints(min_length=1, max_length=32, pattern=DNS_LABEL)]
ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN)]
OptionalObjectName = Annotated[str, StringConstraints(max_length=253, pattern=rf"^$|{DNS_SUBDOMAIN}")]
LabelKey = Annotated[str, StringConstraints(max_length=253)]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE)]
ShortText = Annotated[str, StringConstraints(max_length=253)]
Message = Annotated[str, StringConstraints(max_length=1024)]
ImageReference = Annotated[str, StringConstraints(max_length=512, pattern=r"^\S*$")]
Quantity = Annotated[
    str,
    StringConstraints(min_length=1, max_length=32, pattern=QUANTITY),
    BeforeValidator(_text_of_int),  # the outermost, or pydantic loses the pattern in the JSON schema
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
