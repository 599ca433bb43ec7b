"""The OpenAPI document of the gateway: the request from its model, the rest from the lists that `http.py` answers by."""

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import models_json_schema

import execpool
from execpool.api.names import Outcome, Refusal
from execpool.gateway.requests import Order
from execpool.gateway.stream import MEDIA_TYPE

_TEXT = {"type": "string"}
_SECONDS = {"type": "number", "minimum": 0}


def openapi(status: Mapping[Refusal, int]) -> dict[str, Any]:
    """Return the document. `status` says which HTTP status each refusal has."""
    _, definitions = models_json_schema([(Order, "validation")], ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "info": {"title": "execpool", "version": execpool.__version__},
        "security": [{"executionKey": []}],
        "paths": {"/v1/executions": {"post": _post(status)}},
        "components": {
            "securitySchemes": {"executionKey": {"type": "http", "scheme": "bearer"}},
            "schemas": {**definitions["$defs"], "Answer": _answer(), "Problem": _problem()},
        },
    }


def _post(status: Mapping[Refusal, int]) -> dict[str, Any]:
    refusals: dict[int, list[str]] = {}
    for refusal, code in status.items():
        refusals.setdefault(code, []).append(refusal)
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    answers = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Answer"}},
        MEDIA_TYPE: {"schema": _TEXT},
    }
    return {
        "operationId": "execute",
        "summary": "Run Python code on an executor of a pool",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
        },
        "responses": {
            "200": {"description": "How the execution ended, or its events as NDJSON", "content": answers},
            **{str(code): {"description": ", ".join(names), "content": problem} for code, names in refusals.items()},
        },
    }


def _answer() -> dict[str, Any]:
    error = {"type": ["object", "null"], "properties": {"name": _TEXT, "value": _TEXT, "traceback": _TEXT}}
    route = {"tier": _TEXT, "executor": _TEXT, "reasons": {"type": "array", "items": _TEXT}}
    timings = dict.fromkeys(("waitSeconds", "runSeconds", "totalSeconds"), _SECONDS)
    properties = {
        "id": _TEXT,
        "status": {"enum": [str(outcome) for outcome in Outcome]},
        "reason": _TEXT,
        "message": _TEXT,
        "error": error,
        "results": {"type": "array", "items": {"type": "object", "description": "One result, by MIME type"}},
        "stdout": _TEXT,
        "stderr": _TEXT,
        "truncated": {"type": "boolean"},
        "route": {"type": "object", "properties": route},
        "timings": {"type": "object", "properties": timings},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _problem() -> dict[str, Any]:
    properties: dict[str, Any] = {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "reason": {"enum": [str(refusal) for refusal in Refusal]},
        "detail": _TEXT,
        "requestId": _TEXT,
        "retryAfterSeconds": {"type": "integer"},
    }
    return {"type": "object", "required": ["type", "title", "status"], "properties": properties}
