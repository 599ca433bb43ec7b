"""E2B's answers and addresses, read with suspicion."""

import json
from dataclasses import replace

import pytest
from tests.unit.test_slots import INTENT

from execpool.api.e2b import SandboxPhase
from execpool.core.slots import has_run_out
from execpool.providers.e2b.addresses import endpoint_of, is_allowed, sandbox_url
from execpool.providers.e2b.errors import (
    DeniedError,
    FullError,
    GoneError,
    PacedError,
    RefusedError,
    UnknownError,
    answered,
)
from execpool.providers.e2b.wire import read_created, read_listed

CREATED = {"sandboxID": "i1", "templateID": "base", "clientID": "c", "envdVersion": "0.6.8"}
LISTED = {"sandboxID": "i1", "startedAt": "2026-01-01T00:00:00Z", "metadata": {"a": "b"}}


@pytest.mark.parametrize(
    ("status", "retry_after", "kind"),
    [
        (429, "3", PacedError),
        (429, "0", PacedError),
        (429, "Wed, 21 Oct 2026 07:28:00 GMT", PacedError),
        (429, None, FullError),
        (401, None, DeniedError),
        (403, "5", DeniedError),
        (404, None, GoneError),
        (400, None, RefusedError),
        (409, None, RefusedError),
        (413, None, RefusedError),
        (408, None, UnknownError),
        (500, None, UnknownError),
        (502, None, UnknownError),
        (503, "1", UnknownError),
        (504, None, UnknownError),
        (302, None, UnknownError),
        (200, None, UnknownError),
    ],
)
def test_a_status_says_what_may_have_become_of_a_call(status: int, retry_after: str | None, kind: type):
    assert type(answered(status, "words", retry_after)) is kind


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), (" 7 ", 7.0), ("-1", 1.0), ("1e9", 1.0), ("99999999999", 1.0)]
)
def test_a_time_to_wait_that_is_no_number_counts_as_a_second(text: str, seconds: float):
    assert answered(429, "", text).retry_after == seconds


@pytest.mark.parametrize(
    "odd",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        json.dumps({}).encode(),
        json.dumps(CREATED | {"sandboxID": "../../v2/sandboxes"}).encode(),
        json.dumps(CREATED | {"sandboxID": "i1\r\nX-Evil: 1"}).encode(),
        json.dumps(CREATED | {"sandboxID": ""}).encode(),
        json.dumps(CREATED | {"sandboxID": 5}).encode(),
        json.dumps(CREATED | {"envdAccessToken": "a\nb"}).encode(),
        json.dumps(CREATED | {"domain": "evil.example/path"}).encode(),
    ],
)
def test_an_answer_to_a_creation_that_makes_no_sense_is_an_unknown_outcome(odd: bytes):
    with pytest.raises(UnknownError):
        read_created(odd)


def test_the_least_answer_is_enough():
    assert read_created(json.dumps(CREATED).encode()).sandbox_id == "i1"
    assert "secret" not in repr(read_created(json.dumps(CREATED | {"envdAccessToken": "secret"}).encode()))


@pytest.mark.parametrize(
    "odd",
    [
        b"{}",
        json.dumps([5]).encode(),
        json.dumps([LISTED | {"metadata": 7}]).encode(),
        json.dumps([LISTED | {"startedAt": "yesterday"}]).encode(),
        json.dumps([LISTED | {"startedAt": None}]).encode(),
        json.dumps([LISTED, LISTED | {"sandboxID": "a/b"}]).encode(),
    ],
)
def test_a_list_that_cannot_be_read_whole_is_no_list(odd: bytes):
    with pytest.raises(UnknownError):
        list(read_listed(odd))


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://api.e2b.app", True),
        ("https://API.E2B.APP:443", True),
        ("http://execpool-emulator.execpool-system:8080", True),
        ("http://api.e2b.app", False),
        ("https://api.e2b.app:8443", False),
        ("https://api.e2b.app.evil.example", False),
        ("https://evil@api.e2b.app", False),
        ("https://api.e2b.app/x", False),
        ("ftp://api.e2b.app", False),
        ("https://api.e2b.app:99999999", False),
        ("", False),
    ],
)
def test_an_address_is_allowed_by_scheme_host_and_port(url: str, is_one: bool):
    allowed = ("https://api.e2b.app", "http://execpool-emulator.execpool-system:8080")
    assert is_allowed(url, allowed) is is_one
    assert not is_allowed(url, ())


def test_no_address_is_as_good_as_no_address():
    assert endpoint_of("https://") is None
    assert not is_allowed("nonsense", ("nonsense",))


@pytest.mark.parametrize(
    ("api", "domain", "url"),
    [
        ("https://api.e2b.app", "", "https://{port}-i1.e2b.app"),
        ("https://api.e2b.app", "e2b.dev", "https://{port}-i1.e2b.dev"),
        ("https://api.e2b.app", "evil.example", "https://{port}-i1.e2b.app"),
        ("http://emulator.ns:8080", "", "http://emulator.ns:8080"),
        ("http://emulator.ns:8080", "e2b.app", "http://emulator.ns:8080"),
    ],
)
def test_a_sandbox_is_reached_by_its_host_at_e2b_and_by_headers_elsewhere(api: str, domain: str, url: str):
    assert sandbox_url(api, "i1", domain) == url


def test_what_nobody_can_be_asked_about_has_run_out_when_every_deadline_has():
    assert (has_run_out(INTENT, 179.0), has_run_out(INTENT, 180.0)) == (False, True)
    held = replace(INTENT, phase=SandboxPhase.TERMINATING, sandbox_id="a", expires_at=1000.0)
    assert (has_run_out(held, 1919.0), has_run_out(held, 1920.0)) == (False, True)
