"""The emulator's account, lists, faults and keys: decisions only, with times that the tests choose."""

from contextlib import suppress
from dataclasses import replace
from random import Random
from statistics import median, quantiles
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.core.budget import Rate
from execpool.e2b_server import listing, routes
from execpool.e2b_server.errors import (
    CapReachedError,
    ConflictError,
    InvalidError,
    MismatchError,
    NotFoundError,
    RateLimitedError,
)
from execpool.e2b_server.views import View
from execpool.emulator.account import MAX_LAG_SECONDS, Account, Order, Sandbox, State
from execpool.emulator.faults import Fault, Faults, Kind
from execpool.emulator.idempotency import KEPT_SECONDS, Keys
from execpool.emulator.latency import Latency, draw
from execpool.emulator.ledger import Entry, Event, History
from execpool.emulator.plans import HOBBY, PRO, TEMPLATES, Plan
from execpool.emulator.showing import view_of

NOW = 1_800_000_000.0
BASE = TEMPLATES["base"]
PLAN = Plan(sandboxes=3, creates=Rate(1000, 1, 1000), max_lifetime_seconds=3600)


def order(**changes: object) -> Order:
    return replace(Order(BASE), **changes)


def account(plan: Plan = PLAN) -> Account:
    return Account(plan, NOW)


def put(account: Account, sandbox_id: str, now: float = NOW, **changes: object) -> Sandbox:
    account.reserve(sandbox_id, order(**changes), now)
    return account.started(sandbox_id, now)


def test_a_reserved_sandbox_counts_but_is_not_there_yet() -> None:
    one = account()
    one.reserve("i1", order(), NOW)
    assert one.counted(NOW) == 1
    assert one.alive(NOW) == []
    with pytest.raises(NotFoundError):
        one.get("i1", NOW)
    one.abandon("i1")
    assert one.counted(NOW) == 0


def test_the_time_of_a_sandbox_begins_when_it_has_started() -> None:
    one = account()
    one.reserve("i1", order(timeout_seconds=10), NOW)
    assert one.started("i1", NOW + 5).deadline == NOW + 15


def test_the_cap_counts_what_starts_and_runs_and_nothing_that_is_over_or_paused() -> None:
    one = account()
    for number in range(3):
        put(one, f"i{number}", timeout_seconds=10)
    with pytest.raises(CapReachedError) as raised:
        one.reserve("i3", order(), NOW)
    assert (raised.value.status, dict(raised.value.headers)) == (429, {})
    one.pause("i0", NOW)
    put(one, "i3", NOW)
    one.reserve("i4", order(), NOW + 10)


def attempt(one: Account, sandbox_id: str, now: float) -> RateLimitedError | None:
    try:
        one.reserve(sandbox_id, order(), now)
    except RateLimitedError as error:
        return error
    return None


@pytest.mark.parametrize(("plan", "at_once", "in_ten_seconds"), [(HOBBY, 1, 10), (PRO, 5, 54)], ids=["hobby", "pro"])
def test_a_plan_lets_its_rate_through(plan: Plan, at_once: int, in_ten_seconds: int) -> None:
    one = account(replace(plan, sandboxes=1000))

    def accepted(moments: list[float]) -> int:
        outcomes = [attempt(one, f"i{moment}{number}", moment) for number, moment in enumerate(moments)]
        assert all(int(refused.headers["Retry-After"]) >= 1 for refused in outcomes if refused)
        return outcomes.count(None)

    first = accepted([NOW] * 10)
    assert first == at_once
    assert first + accepted([NOW + tick / 100 for tick in range(1000)]) == in_ten_seconds


def test_executions_have_a_limit_only_where_one_is_set() -> None:
    free, held = account(), account(replace(PLAN, executions=Rate(60, 60, 2)))
    for _ in range(1000):
        free.count_execution(NOW)
    held.count_execution(NOW)
    held.count_execution(NOW)
    with pytest.raises(RateLimitedError, match="Rate limit exceeded, please try again later"):
        held.count_execution(NOW)
    held.count_execution(NOW + 1)


def test_management_calls_have_a_limit_too() -> None:
    one = account()
    for _ in range(1000):
        one.count_call(NOW)
    with pytest.raises(RateLimitedError):
        one.count_call(NOW)


def test_a_sandbox_is_over_at_its_deadline_and_not_before() -> None:
    one = account()
    deadline = put(one, "i1", timeout_seconds=10).deadline
    assert one.get("i1", deadline - 0.001)
    with pytest.raises(NotFoundError):
        one.get("i1", deadline)
    assert [each.id for each in one.due(deadline)] == ["i1"]
    assert one.next_deadline() == deadline


def test_one_that_pauses_at_its_deadline_stays() -> None:
    one = account()
    deadline = put(one, "i1", timeout_seconds=10, pauses_at_deadline=True).deadline
    assert one.get("i1", deadline + 5).state is State.RUNNING
    one.pause("i1", deadline + 5)
    assert one.due(deadline + 100) == []


def test_timeouts_move_deadlines_within_what_the_plan_allows() -> None:
    one = account()
    put(one, "i1")
    assert one.set_timeout("i1", 10, NOW + 1).deadline == NOW + 11
    assert one.extend("i1", 5, NOW + 1).deadline == NOW + 11
    assert one.extend("i1", 50, NOW + 1).deadline == NOW + 51
    assert one.set_timeout("i1", 10_000, NOW + 1).deadline == NOW + 3600
    with pytest.raises(InvalidError):
        account().reserve("i2", order(timeout_seconds=3601), NOW)


def test_pausing_and_resuming_are_refused_where_they_change_nothing() -> None:
    one = account()
    put(one, "i1")
    with pytest.raises(ConflictError):
        one.resume("i1", 10, NOW)
    one.pause("i1", NOW)
    with pytest.raises(ConflictError):
        one.pause("i1", NOW)
    with pytest.raises(NotFoundError):
        one.set_timeout("i1", 10, NOW)
    assert one.resume("i1", 10, NOW + 7).deadline == NOW + 17


def test_a_lagging_list_shows_how_it_was() -> None:
    one = account()
    put(one, "old", NOW)
    put(one, "new", NOW + 10)
    one.end("old", NOW + 10)
    assert [each.id for each in one.seen(NOW + 11, lag=5)] == ["old"]
    assert [each.id for each in one.seen(NOW + 16, lag=5)] == ["new"]
    assert [each.id for each in one.seen(NOW + 11, lag=0)] == ["new"]


Step = tuple[str, int, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "kill", "pause", "resume", "timeout", "extend", "due"]),
        st.integers(0, 5),
        st.floats(0, 40),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_cap_holds_and_nobody_outlives_the_plan(steps: list[Step]) -> None:
    one, now = account(), NOW
    for number, (what, which, seconds) in enumerate(steps):
        now += seconds
        with suppress(InvalidError, NotFoundError, ConflictError, RateLimitedError, CapReachedError):
            _do(one, what, f"i{which}", f"n{number}", now)
        assert one.counted(now) <= PLAN.sandboxes
        for sandbox in one.alive(now):
            assert sandbox.deadline <= sandbox.started_at + PLAN.max_lifetime_seconds
            assert sandbox.state is State.PAUSED or now < sandbox.deadline
        assert {each.id for each in one.seen(now, 0)} == {each.id for each in one.alive(now)}
        assert len(one.seen(now, MAX_LAG_SECONDS)) <= len(steps)


def _do(one: Account, what: str, sandbox_id: str, fresh: str, now: float) -> None:
    match what:
        case "create":
            name = sandbox_id if sandbox_id not in {each.id for each in one.seen(now, MAX_LAG_SECONDS)} else fresh
            put(one, fresh if name in one._sandboxes else name, now, timeout_seconds=30)
        case "kill":
            one.end(sandbox_id, now)
        case "pause":
            one.pause(sandbox_id, now)
        case "resume":
            one.resume(sandbox_id, 20, now)
        case "timeout":
            one.set_timeout(sandbox_id, 5000, now)
        case "extend":
            one.extend(sandbox_id, 40, now)
        case _:
            for sandbox in one.due(now):
                one.end(sandbox.id, now)


@given(st.lists(st.floats(0, 10), max_size=30), st.integers(1, 7), st.booleans())
def test_pages_together_are_the_list_in_its_order(starts: list[float], limit: int, ascending: bool) -> None:
    everything = [
        view_of(Sandbox(f"i{number}", order(), State.RUNNING, NOW + start, NOW + 100, NOW + start))
        for number, start in enumerate(starts)
    ]
    query = listing.Query({}, ascending=ascending, limit=limit)
    found: list[View] = []
    while True:
        page = listing.page(everything, query)
        assert page.running == len(everything)
        found += page.sandboxes
        if not page.next_token:
            break
        query = replace(query, after=listing.read_cursor(page.next_token))
    assert found == sorted(everything, key=lambda each: (each.started_at, each.id), reverse=not ascending)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3))
def test_a_filter_is_read_as_the_sdk_writes_it(metadata: dict[str, str]) -> None:
    metadata = {name: value for name, value in metadata.items() if name}
    written = urlencode({_quoted(name): _quoted(value) for name, value in metadata.items()})
    assert listing.read_metadata(written) == {_sound(name): _sound(value) for name, value in metadata.items()}


def _sound(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _quoted(text: str) -> str:
    return quote(_sound(text))


def test_faults_are_given_in_their_order_as_often_as_ordered_and_while_they_hold() -> None:
    faults = Faults()
    faults.order(Fault("create", Kind.RESET, times=2))
    faults.order(Fault("*", Kind.STATUS, times=None, until=NOW + 10))
    assert [faults.take(call, NOW).kind for call in ("list", "create", "create", "create")] == [
        Kind.STATUS,
        Kind.RESET,
        Kind.RESET,
        Kind.STATUS,
    ]
    assert faults.take("create", NOW + 10) is None
    assert faults.all() == {}


def test_a_key_stands_for_one_creation() -> None:
    keys = Keys()
    assert keys.begin("k", "request", NOW) == ""
    with pytest.raises(ConflictError):
        keys.begin("k", "request", NOW)
    keys.made("k", "i1")
    assert keys.begin("k", "request", NOW + 1) == "i1"
    with pytest.raises(MismatchError):
        keys.begin("k", "another", NOW + 1)
    assert keys.begin("k", "another", NOW + KEPT_SECONDS) == ""
    keys.failed("k")
    assert keys.begin("k", "third", NOW + KEPT_SECONDS) == ""


def test_latencies_are_those_that_were_measured_and_the_same_for_the_same_seed() -> None:
    drawn = [draw(Latency.PUBLISHED, Random(seed)) for seed in range(4)]
    assert drawn == [draw(Latency.PUBLISHED, Random(seed)) for seed in range(4)]
    random = Random(1)
    many = [draw(Latency.PUBLISHED, random) for _ in range(20_000)]
    assert median(many) == pytest.approx(0.44, rel=0.03)
    assert quantiles(many, n=20)[-1] == pytest.approx(0.87, rel=0.05)
    assert 0.007 < sum(seconds >= 4 for seconds in many) / len(many) < 0.014
    assert draw(Latency.NONE, random) == 0


INSIDE = {"e2b-sandbox-id": "i1", "e2b-sandbox-port": "49999"}


@pytest.mark.parametrize(
    ("headers", "path", "expected"),
    [
        ({"x-api-key": "k", **INSIDE}, "/sandboxes/i1/connect", routes.Control()),
        (INSIDE, "/execute", routes.Inside("i1", 49999)),
        ({**INSIDE, "e2b-sandbox-id": "i1-6532622b"}, "/execute", routes.Inside("i1", 49999)),
        ({"host": "49983-i1-abc.e2b.example:443"}, "/health", routes.Inside("i1", 49983)),
        ({"host": "api.e2b.example"}, "/health", routes.Control()),
        ({"host": "127.0.0.1:3000"}, "/health", routes.Control()),
        ({"e2b-sandbox-id": "i1"}, "/", routes.Misrouted("missing header")),
        ({**INSIDE, "e2b-sandbox-id": "I!"}, "/", routes.Misrouted("Invalid sandbox ID")),
        ({**INSIDE, "e2b-sandbox-port": "x"}, "/", routes.Misrouted("invalid sandbox port")),
        ({}, "/files", routes.Signed()),
    ],
    ids=[
        "a key decides",
        "headers name a sandbox",
        "a suffix is dropped",
        "a host names one",
        "the API's host",
        "an address",
        "half of the headers",
        "an id that is none",
        "a port that is none",
        "a signed URL",
    ],
)
def test_a_request_goes_where_it_is_meant_to(headers: dict[str, str], path: str, expected: routes.Destination) -> None:
    query = {"signature": ["v1_x"]} if path == "/files" else {}
    assert routes.destination(headers, path, query) == expected


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/v2/sandboxes", (routes.Call.CREATE, "")),
        ("POST", "/sandboxes", (routes.Call.CREATE, "")),
        ("GET", "/sandboxes/metrics", (routes.Call.ALL_METRICS, "")),
        ("DELETE", "/sandboxes/i1-abc", (routes.Call.KILL, "i1")),
        ("POST", "/v2/sandboxes/i1/connect", (routes.Call.CONNECT, "i1")),
        ("PUT", "/sandboxes/i1/network", (routes.Call.NOT_OFFERED, "")),
        ("GET", "/v2/templates", (routes.Call.NOT_OFFERED, "")),
    ],
)
def test_a_path_of_the_control_plane_is_a_call(method: str, path: str, expected: tuple[routes.Call, str]) -> None:
    assert routes.control_call(method, path) == expected


def test_a_path_that_is_none_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        routes.control_call("GET", "/nothing")


def entry(event: Event, time: float, sandbox_id: str = "i1", **more: object) -> Entry:
    return Entry(time, event, sandbox_id, cpu_count=2, memory_mb=2048, **more)


def test_a_history_counts_what_ran_and_not_what_was_paused() -> None:
    history = History(
        [
            entry(Event.CREATED, NOW),
            entry(Event.PAUSED, NOW + 10),
            entry(Event.RESUMED, NOW + 100),
            entry(Event.KILLED, NOW + 105),
            entry(Event.CREATED, NOW + 50, "i2"),
        ]
    )
    assert history.sandbox_seconds(NOW + 60) == 20
    assert history.sandbox_seconds(NOW + 1000) == 15 + 950
    assert history.alive(NOW + 50) == {"i1", "i2"}
    assert history.alive(NOW + 105) == {"i2"}
    assert history.cost_microusd(NOW + 10) == pytest.approx(10 * 37)


def test_an_entry_is_read_as_it_was_written() -> None:
    written = entry(Event.CREATED, NOW, metadata={"a": "b"}, deadline=NOW + 5, status=0)
    assert Entry.read(written.line()) == written
    assert b"status" not in written.line()
