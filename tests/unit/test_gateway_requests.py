"""What a request may say, field by field."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.api.names import Refusal
from execpool.executor.server import requests as executor_requests
from execpool.gateway.errors import GatewayError
from execpool.gateway.openapi import openapi
from execpool.gateway.replies import STATUS, TITLES
from execpool.gateway.requests import (
    MAX_ENV_BYTES,
    MAX_WIRE_BYTES,
    NOT_YET,
    Order,
    execute_body,
    read_order,
)


def read(**fields: Any) -> Order:
    return read_order(json.dumps({"code": "1"} | fields).encode())


def refusal(body: bytes) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        read_order(body)
    return caught.value


def test_only_code_is_needed() -> None:
    order = read()
    assert (order.code, order.timeout_seconds, order.retry, order.user, order.env) == ("1", 60.0, "Never", "", {})


def test_every_field_is_read() -> None:
    order = read(
        pool="agents", user="ann@example.org", tier="local", timeoutSeconds=1.5, maxWaitSeconds=0, env={"A": "1"},
        retry="Safe", minIsolation="Sandboxed",
    )  # fmt: skip
    assert (order.pool, order.max_wait_seconds, order.env, order.min_isolation) == (
        "agents",
        0,
        {"A": "1"},
        "Sandboxed",
    )


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"code": 1}, "code"),
        ({"code": None}, "code"),
        ({"pool": "Not_A_Name"}, "pool"),
        ({"pool": ["a"]}, "pool"),
        ({"user": "x" * 129}, "user"),
        ({"user": "a\nb"}, "user"),
        ({"user": "a\u200fb"}, "user"),
        ({"tier": ""}, "tier"),
        ({"timeoutSeconds": 0}, "timeoutSeconds"),
        ({"timeoutSeconds": 3601}, "timeoutSeconds"),
        ({"timeoutSeconds": "60"}, "timeoutSeconds"),
        ({"timeoutSeconds": True}, "timeoutSeconds"),
        ({"timeoutSeconds": float("inf")}, "timeoutSeconds"),
        ({"maxWaitSeconds": -1}, "maxWaitSeconds"),
        ({"env": {"A": 1}}, "env.A"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"A": "x\0"}}, "env"),
        ({"env": {"A": "x" * 40_000}}, "env"),
        ({"env": {f"A{i}": "" for i in range(65)}}, "env"),
        ({"env": []}, "env"),
        ({"retry": "safe"}, "retry"),
        ({"minIsolation": "microvm"}, "minIsolation"),
        ({"timeout": 5}, "timeout"),
        ({"timeout_seconds": 5}, "timeout_seconds"),
    ],
)
def test_a_wrong_field_is_refused_by_name(fields: dict[str, Any], named: str) -> None:
    error = refusal(json.dumps({"code": "1"} | fields).encode())
    assert error.refusal is Refusal.INVALID_REQUEST
    assert named in error.sentence
    assert error.facts["field"] == named


@pytest.mark.parametrize("field", sorted(NOT_YET))
def test_a_field_of_later_releases_is_an_unsupported_option(field: str) -> None:
    error = refusal(json.dumps({"code": "1", field: "x"}).encode())
    assert (error.refusal, error.facts["field"]) == (Refusal.UNSUPPORTED_OPTION, field)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"code", b'{"code":"1"', b"\xff", b"[" * 100_000, b'{"code":"\\ud800"}']
)
def test_a_body_that_is_no_request_is_refused(body: bytes) -> None:
    assert refusal(body).refusal is Refusal.INVALID_REQUEST


def test_a_missing_code_is_refused_by_name() -> None:
    assert refusal(b"{}").sentence == "code: Field required"


def test_code_over_a_mebibyte_is_too_large() -> None:
    error = refusal(json.dumps({"code": "x" * ((1 << 20) + 1)}).encode())
    assert error.refusal is Refusal.REQUEST_TOO_LARGE
    assert "1048577" in error.sentence


@pytest.mark.parametrize(
    ("code", "allowed"),
    [("\n" * 780_000, True), ("\n" * 800_000, False), ("\0" * 270_000, False), ("é" * 500_000, True)],
)
def test_code_that_an_executor_would_not_take_is_too_large(code: str, allowed: bool) -> None:
    body = json.dumps({"code": code}).encode()
    if allowed:
        executor_requests.execute(execute_body(read_order(body)))
        return
    error = refusal(body)
    assert (error.refusal, error.facts["field"]) == (Refusal.REQUEST_TOO_LARGE, "code")
    assert str(MAX_WIRE_BYTES) in error.sentence


def test_limits_are_those_of_executors() -> None:
    assert executor_requests.MAX_DATA_BODY == MAX_WIRE_BYTES
    assert executor_requests.MAX_ENV_BYTES >= MAX_ENV_BYTES
    executor_requests.execute(execute_body(read(env={"A": "é" * (MAX_ENV_BYTES // 2 - 1)})))
    assert "env" in refusal(json.dumps({"code": "1", "env": {"A": "é" * 17_000}}).encode()).sentence


@pytest.mark.parametrize(
    "fields",
    [
        {f"k{number}": 1 for number in range(120_000)},
        {"code": "1", "env": {f"K{number}": 1 for number in range(120_000)}},
        {"code": "1", "env": [{}] * 120_000},
        {"code": "1", "user": {f"K{number}": 1 for number in range(120_000)}},
    ],
)
def test_many_wrong_fields_are_refused_before_each_of_them_is_looked_at(
    fields: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Order, "model_validate_json", lambda _: pytest.fail("2 us for each field"))
    assert refusal(json.dumps(fields).encode()).refusal is Refusal.INVALID_REQUEST


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=100)
    | st.dictionaries(
        st.sampled_from([*Order.model_fields, "maxWaitSeconds", "x"]),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.integers())
        | st.dictionaries(st.text(), st.text()),
        max_size=6,
    ).map(lambda v: json.dumps(v).encode())
)
def test_any_body_is_a_request_or_refused(body: bytes) -> None:
    try:
        got: object = read_order(body)
    except GatewayError as error:
        got = error
    assert isinstance(got, Order | GatewayError)


def test_every_refusal_has_a_status_and_a_title() -> None:
    assert set(STATUS) == set(TITLES) == set(Refusal)


def test_the_openapi_document_names_every_field_and_every_status() -> None:
    document = openapi(STATUS)
    fields = document["components"]["schemas"]["Order"]["properties"]
    assert set(fields) == {field.alias or name for name, field in Order.model_fields.items()}
    assert all("description" in field or "$ref" in json.dumps(field) for field in fields.values())
    responses = document["paths"]["/v1/executions"]["post"]["responses"]
    assert set(responses) == {"200", *map(str, STATUS.values())}
