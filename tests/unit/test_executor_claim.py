"""Ownership of an executor: one principal for life, rising epochs, compare-and-set retirement."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from execpool.executor.server import claim, errors
from execpool.executor.server.claim import Ownership
from execpool.protocol import ExecutorPhase, Expect

ALICE, BOB, TOKEN = "alice", "bob", "token"
IDLE, AGE = 120.0, 3600.0


def ownership(*, slots: int = 2, now: float = 0.0) -> Ownership:
    return Ownership(slots=slots, idle_seconds=IDLE, max_age_seconds=AGE, now=now)


def claimed(*, slots: int = 2, now: float = 0.0) -> Ownership:
    owned = ownership(slots=slots)
    owned.claim(ALICE, token=TOKEN, now=now)
    return owned


def test_a_warm_executor_goes_to_the_first_who_asks():
    grant = ownership(slots=3).claim(ALICE, token=TOKEN, now=1.0)
    assert (grant.token, grant.epoch, grant.slots) == (TOKEN, 1, 3)


def test_an_execution_that_still_runs_does_not_begin_again_however_many_came_after_it(monkeypatch):
    monkeypatch.setattr(claim, "REMEMBERED_EXECUTIONS", 1)
    owned = claimed(slots=2)
    owned.begin("first", now=0.0)
    for other in ("a", "b"):
        owned.begin(other, now=0.0)
        owned.end(other, now=0.0)
    with pytest.raises(errors.Conflict):
        owned.begin("first", now=0.0)


def test_a_second_principal_is_refused_for_ever():
    owned = claimed()
    with pytest.raises(errors.Conflict):
        owned.claim(BOB, token="other", now=2.0)
    assert owned.principal == ALICE


def test_the_same_principal_gets_a_higher_epoch_and_the_same_token():
    owned = claimed()
    grant = owned.claim(ALICE, token="ignored", now=2.0)
    assert (grant.token, grant.epoch) == (TOKEN, 2)


def test_a_new_claim_fences_the_epoch_before():
    owned = claimed()
    owned.claim(ALICE, token="ignored", now=2.0)
    with pytest.raises(errors.StaleEpoch):
        owned.authorize(TOKEN, 1)
    owned.authorize(TOKEN, 2)


@pytest.mark.parametrize("token", ["", "Token", "token ", "tökén", "\udc80"])
def test_another_token_is_refused(token):
    with pytest.raises(errors.Unauthorized):
        claimed().authorize(token, 1)


def test_without_a_claim_not_even_the_empty_token_is_right():
    with pytest.raises(errors.Unauthorized):
        ownership().authorize("", 0)


def test_an_execution_id_begins_once():
    owned = claimed()
    owned.begin("one", now=1.0)
    owned.end("one", now=2.0)
    with pytest.raises(errors.Conflict):
        owned.begin("one", now=3.0)


def test_a_disproved_start_may_be_tried_again_and_counts_once():
    owned = claimed()
    owned.begin("one", now=1.0)
    owned.disprove("one", now=1.1)
    assert owned.begin("one", now=2.0) == 1


def test_execution_ids_are_forgotten_only_after_very_many(monkeypatch):
    monkeypatch.setattr(claim, "REMEMBERED_EXECUTIONS", 3)
    owned = claimed()
    for name in "abcd":
        owned.begin(name, now=1.0)
        owned.end(name, now=1.0)
    owned.begin("a", now=2.0)
    with pytest.raises(errors.Conflict):
        owned.begin("d", now=2.0)


def test_no_more_runs_than_slots():
    owned = claimed(slots=1)
    owned.begin("one", now=1.0)
    with pytest.raises(errors.NoFreeSlot):
        owned.begin("two", now=1.0)
    owned.end("one", now=2.0)
    assert owned.begin("two", now=2.0) == 2


@pytest.mark.parametrize(
    ("prepare", "expect", "epoch"),
    [
        pytest.param(ownership, Expect.WARM, 0, id="warm expected and warm"),
        pytest.param(ownership, Expect.ANY, 0, id="any expected and warm"),
        pytest.param(claimed, Expect.IDLE, 1, id="idle expected and idle at the latest epoch"),
        pytest.param(claimed, Expect.ANY, 0, id="any expected and claimed"),
    ],
)
def test_retire_succeeds_when_the_expectation_holds(prepare, expect, epoch):
    owned = prepare()
    owned.retire(expect, epoch=epoch)
    assert owned.phase is ExecutorPhase.RETIRED


@pytest.mark.parametrize(
    ("prepare", "expect", "epoch"),
    [
        pytest.param(claimed, Expect.WARM, 0, id="warm expected but claimed"),
        pytest.param(ownership, Expect.IDLE, 0, id="idle expected but warm"),
        pytest.param(claimed, Expect.IDLE, 0, id="idle expected but at another epoch"),
        pytest.param(claimed, Expect.IDLE, 2, id="idle expected but at a future epoch"),
    ],
)
def test_retire_changes_nothing_when_the_expectation_does_not_hold(prepare, expect, epoch):
    owned = prepare()
    before = owned.phase
    with pytest.raises(errors.Conflict):
        owned.retire(expect, epoch=epoch)
    assert owned.phase is before


def test_a_busy_executor_is_not_idle():
    owned = claimed()
    owned.begin("one", now=1.0)
    with pytest.raises(errors.Conflict):
        owned.retire(Expect.IDLE, epoch=1)


def test_a_retired_executor_takes_nothing_and_may_be_retired_again():
    owned = claimed()
    owned.retire(Expect.ANY)
    owned.retire(Expect.WARM)
    with pytest.raises(errors.Gone):
        owned.claim(ALICE, token=TOKEN, now=1.0)
    with pytest.raises(errors.Gone):
        owned.authorize(TOKEN, 1)
    with pytest.raises(errors.Gone):
        owned.begin("one", now=1.0)


def test_a_warm_executor_ends_by_age_and_a_claimed_one_by_idleness():
    owned = ownership(now=10.0)
    assert owned.ends_at() == 10.0 + AGE
    owned.claim(ALICE, token=TOKEN, now=20.0)
    assert owned.ends_at() == 20.0 + IDLE
    owned.begin("one", now=30.0)
    assert owned.ends_at() is None
    owned.end("one", now=40.0)
    assert owned.ends_at() == 40.0 + IDLE
    owned.retire(Expect.ANY)
    assert owned.ends_at() is None


def test_state_tells_durations_and_counts():
    owned = claimed(now=100.0)
    assert ownership().state(5.0) is None
    owned.begin("one", now=110.0)
    running = owned.state(115.0)
    assert (running.held_seconds, running.idle_seconds, running.running, running.executions) == (15.0, 0.0, 1, 1)
    owned.end("one", now=120.0)
    idle = owned.state(125.0)
    assert (idle.idle_seconds, idle.running, idle.executions, idle.epoch) == (5.0, 0, 1, 1)


def test_a_session_has_an_executor_alone_until_its_deadline_however_idle_or_busy_it_is():
    owned = claimed()
    owned.hold("one", until=900.0, about={"template": "agents"})
    assert owned.ends_at() == 900.0
    owned.begin("in a context", now=5.0, takes_slot=False)
    assert owned.ends_at() == 900.0
    with pytest.raises(errors.Conflict, match="one"):
        owned.begin("in a slot", now=5.0)
    with pytest.raises(errors.Conflict, match="one"):
        owned.retire(Expect.IDLE, epoch=1)
    state = owned.session(now=100.0)
    assert (state.id, state.left_seconds, state.about) == ("one", 800.0, {"template": "agents"})


def test_a_session_moves_its_end_and_says_no_more_than_it_wants_to_change():
    owned = claimed()
    owned.hold("one", until=900.0, about={"a": 1})
    owned.hold("one", until=50.0)
    assert owned.ends_at() == 50.0
    assert owned.session(now=60.0).left_seconds == 0.0
    assert owned.session(now=0.0).about == {"a": 1}


def test_a_second_session_is_refused_and_so_is_one_where_something_has_run():
    owned = claimed()
    owned.hold("one", until=900.0)
    with pytest.raises(errors.Conflict, match="one"):
        owned.hold("two", until=900.0)
    used = claimed()
    used.begin("a run", now=0.0)
    used.end("a run", now=1.0)
    with pytest.raises(errors.Conflict, match="1 runs"):
        used.hold("one", until=900.0)


def test_a_session_outlives_the_gateway_that_opened_it():
    owned = claimed()
    owned.hold("one", until=900.0)
    owned.claim(ALICE, token="ignored", now=2.0)
    owned.hold("one", until=1000.0)
    assert owned.session(now=0.0).left_seconds == 1000.0


def test_what_nobody_holds_and_what_is_retired_takes_no_session():
    with pytest.raises(errors.Gone):
        ownership().hold("one", until=1.0)
    owned = claimed()
    owned.retire(Expect.ANY)
    with pytest.raises(errors.Gone):
        owned.hold("one", until=1.0)


class Histories(RuleBasedStateMachine):
    """Any history of calls, also refused ones, keeps the promises of DESIGN rules 3, 4 and 6."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.owned = ownership(slots=2)
        self.owners: set[str] = set()
        self.tokens: set[str] = set()
        self.epochs: list[int] = [0]
        self.began: set[str] = set()
        self.running: set[str] = set()
        self.sessions: set[str] = set()
        self.was_retired = False

    @rule(seconds=st.floats(0, 200))
    def time_passes(self, seconds):
        self.now += seconds

    @rule(principal=st.sampled_from([ALICE, BOB, "carol"]), token=st.text("ab", min_size=1, max_size=3))
    def somebody_claims(self, principal, token):
        try:
            grant = self.owned.claim(principal, token=token, now=self.now)
        except errors.Refusal:
            return
        assert not self.was_retired
        assert grant.epoch > self.epochs[-1]
        self.owners.add(principal)
        self.tokens.add(grant.token)
        self.epochs.append(grant.epoch)

    @rule(name=st.sampled_from("abcdef"), lag=st.integers(0, 2), honest=st.booleans())
    def somebody_executes(self, name, lag, honest):
        token = next(iter(self.tokens), "none") if honest else "guess"
        try:
            self.owned.authorize(token, self.epochs[-1] - lag)
            self.owned.begin(name, now=self.now)
        except errors.Refusal:
            return
        assert honest
        assert lag == 0
        assert name not in self.began
        assert not self.sessions
        assert not self.was_retired
        self.began.add(name)
        self.running.add(name)

    @rule(name=st.sampled_from(["one", "two"]), seconds=st.floats(-1, 300))
    def somebody_opens_a_session(self, name, seconds):
        try:
            self.owned.hold(name, until=self.now + seconds)
        except errors.Refusal:
            return
        assert self.owners
        assert not self.was_retired
        assert not self.began
        self.sessions.add(name)

    @rule(name=st.sampled_from("abcdef"))
    def a_run_ends(self, name):
        if name in self.running:
            self.owned.end(name, now=self.now)
            self.running.discard(name)

    @rule(name=st.sampled_from("abcdef"))
    def a_start_is_disproved(self, name):
        if name in self.running:
            self.owned.disprove(name, now=self.now)
            self.running.discard(name)
            self.began.discard(name)

    @rule(expect=st.sampled_from(list(Expect)), lag=st.integers(0, 1))
    def somebody_retires(self, expect, lag):
        idle = bool(self.owners) and not self.running and not self.sessions and lag == 0
        holds = {Expect.WARM: not self.owners, Expect.IDLE: idle, Expect.ANY: True}[expect] or self.was_retired
        try:
            self.owned.retire(expect, epoch=self.epochs[-1] - lag)
        except errors.Conflict:
            assert not holds
        else:
            assert holds
            self.was_retired = True

    @invariant()
    def there_is_at_most_one_owner_and_one_token(self):
        assert len(self.owners) <= 1
        assert len(self.tokens) <= 1
        assert self.owned.principal in {"", *self.owners}

    @invariant()
    def there_is_at_most_one_session(self):
        assert len(self.sessions) <= 1

    @invariant()
    def slots_are_never_exceeded(self):
        assert self.owned.running == len(self.running) <= 2

    @invariant()
    def nothing_leaves_retired(self):
        assert (self.owned.phase is ExecutorPhase.RETIRED) == self.was_retired

    @invariant()
    def a_running_or_retired_executor_does_not_end_by_a_clock(self):
        if self.running or self.was_retired:
            assert self.owned.ends_at() is None


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
