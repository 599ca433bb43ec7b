"""What refusals teach: by laws that always hold, and by traffic against a limiter in virtual time."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execpool.core.budget import NANOSECONDS, Bucket, Rate
from execpool.core.learning import (
    DOUBT,
    DOUBT_SECONDS,
    LITTLE_LESS,
    LONGEST_PAUSE_SECONDS,
    PROBE_AFTER_SECONDS,
    LearnedNumber,
    LearnedRate,
)

DECLARED = st.none() | st.floats(1, 60_000)
EVENTS = st.lists(st.tuples(st.floats(0, 30), st.none() | st.floats(0, 1e9) | st.just(1.0)), max_size=60)
"""Time since the last, and None: let through; a number: refused with that time to wait."""


@dataclass
class Traffic:
    """Somebody who always wants more, a limiter that lets `burst` come early, and answers that take a while."""

    limit: float
    """A minute."""
    declared: float | None
    burst: int = 1
    answer_seconds: float = 0.05
    in_flight: int = 8
    now: float = 1000.0
    rate: LearnedRate = field(default_factory=LearnedRate)
    done: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    _answers: list[tuple[float, float, float]] = field(default_factory=list)
    """When, of what was asked when, and the time to wait; 0 for what was let through."""

    def __post_init__(self) -> None:
        self.change(self.limit)

    def change(self, limit: float) -> None:
        self.limit = limit
        rate = Rate(round(limit * 60), 3600, self.burst)
        self._limiter = Bucket(rate, round((self.now - 3600 * self.burst) * NANOSECONDS))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            wait = self.rate.wait(self.declared, self.now)
            answer = min(self._answers, default=None)
            if answer is not None and (answer[0] <= self.now + wait or len(self._answers) >= self.in_flight):
                self.now = max(self.now, answer[0])
                self._hear(answer)
            elif wait > 0:
                self.now += wait + 1e-6
            else:
                self._ask()

    def share(self, seconds: float) -> float:
        """Of what the limiter would have let through in the last so many seconds."""
        return sum(at >= self.now - seconds for at in self.done) / (self.limit / 60 * seconds)

    def refusals(self, seconds: float) -> int:
        return sum(at >= self.now - seconds for at in self.refused)

    def _ask(self) -> None:
        self.rate = self.rate.asked(self.declared, self.now)
        at = round(self.now * NANOSECONDS)
        if self._limiter.take(at):
            self.done.append(self.now)
            self._answers.append((self.now + self.answer_seconds, self.now, 0.0))
        else:
            self.refused.append(self.now)
            wait = float(max(math.ceil(self._limiter.wait(at) / NANOSECONDS), 1))
            self._answers.append((self.now + 0.005, self.now, wait))

    def _hear(self, answer: tuple[float, float, float]) -> None:
        self._answers.remove(answer)
        _, asked_at, wait = answer
        if wait:
            self.rate = self.rate.refused(self.declared, wait, asked_at, self.now)
        else:
            self.rate = self.rate.let_through(self.declared, asked_at, self.now)


# Laws


@given(DECLARED, EVENTS)
def test_the_rate_is_never_below_one_nor_above_what_was_declared(declared: float | None, events: list):
    rate, now = LearnedRate(), 0.0
    for pause, told in events:
        now += pause
        rate = rate.asked(declared, now)
        if told is None:
            rate = rate.let_through(declared, now, now)
        else:
            rate = rate.refused(declared, told, now, now)
        assert 1 <= rate.most(declared) <= (math.inf if declared is None else declared)
        assert 0 <= rate.wait(declared, now) <= max(LONGEST_PAUSE_SECONDS, 60.0) + 1e-9
        assert rate.good <= rate.bad


@given(st.floats(4, 60_000), st.integers(1, 100))
def test_a_storm_counts_once_and_pauses_as_long_as_its_last_refusal_says(declared: float, seconds: int):
    rate = LearnedRate()
    for at in (0.0, 0.1, 0.2):
        rate = rate.asked(declared, at)
    first = rate.refused(declared, seconds, 0.0, 0.3)
    assert first.most(declared) == declared / 2
    storm = first.refused(declared, seconds, 0.1, 0.4).refused(declared, seconds, 0.2, 0.5)
    assert storm.most(declared) == first.most(declared)
    assert storm.wait(declared, 0.5) >= seconds
    assert storm.refused(declared, seconds, 200.0, 200.1).most(declared) == max(declared / 4, 1)


def test_an_answer_to_what_was_asked_before_the_present_rate_held_teaches_nothing():
    rate = LearnedRate().asked(60.0, 0.0).refused(60.0, 1.0, 0.0, 0.1)
    for _ in range(10):
        rate = rate.let_through(60.0, 0.05, 30.0)
    assert rate.most(60.0) == 30.0


def test_success_while_less_is_asked_for_than_may_be_does_not_raise_the_rate():
    rate, now = LearnedRate().asked(600.0, 0.0).refused(600.0, 1.0, 0.0, 0.1), 1.1
    for _ in range(100):
        now += 60.0
        rate = rate.asked(600.0, now).let_through(600.0, now, now + 0.1)
    assert rate.most(600.0) == 300.0


def test_a_single_refusal_after_long_success_is_chance_and_a_second_one_is_not():
    traffic = Traffic(limit=600.0, declared=590.0)
    traffic.run(max(DOUBT_SECONDS, DOUBT / 9) + 5)
    once = traffic.rate.refused(590.0, 1.0, traffic.now, traffic.now)
    assert (once.most(590.0), once.wait(590.0, traffic.now)) == (590.0, 1.0)
    traffic.rate = once
    traffic.run(4)
    twice = traffic.rate.refused(590.0, 1.0, traffic.now, traffic.now)
    assert twice.most(590.0) == 590.0 * LITTLE_LESS


def test_a_late_answer_counts_as_a_late_arrival():
    rate = LearnedRate()
    for at in (0.0, 1.0, 2.0, 3.0):
        rate = rate.asked(60.0, at).answered(at, at + 0.02)
    late = rate.asked(60.0, 4.0).answered(4.0, 4.32)
    assert late.wait(60.0, 4.32) == pytest.approx(0.98)
    stale = late.asked(60.0, 5.3).answered(4.0, 9.0)
    assert stale.wait(60.0, 5.3) == 1.0, "it is not the last one that was asked for"


# Traffic


@settings(max_examples=40, deadline=None)
@given(st.floats(40, 3000), st.sampled_from([1, 5]), st.floats(0.01, 0.6))
def test_a_limit_that_nobody_knows_is_used_to_nine_tenths_within_a_minute(limit: float, burst: int, answer: float):
    traffic = Traffic(limit, None, burst, answer, in_flight=8 + round(limit * answer / 30))
    traffic.run(60)
    traffic.run(60)
    assert traffic.share(60) >= 0.9
    assert traffic.refusals(60) / len(traffic.done) <= 0.05


@settings(max_examples=40, deadline=None)
@given(st.floats(40, 600), st.floats(1.05, 10), st.sampled_from([1, 5]))
def test_a_limit_far_below_the_declared_one_is_used_to_nine_tenths_within_a_minute(
    limit: float, factor: float, burst: int
):
    traffic = Traffic(limit, limit * factor, burst)
    traffic.run(60)
    traffic.run(60)
    assert traffic.share(60) >= 0.9
    assert traffic.refusals(60) / len(traffic.done) <= 0.1


@settings(max_examples=25, deadline=None)
@given(st.floats(120, 600), st.floats(0.2, 0.9))
def test_a_limit_that_falls_and_rises_again_is_followed(limit: float, factor: float):
    traffic = Traffic(limit, limit * 0.985)
    traffic.run(60)
    assert (traffic.share(60) >= 0.95, traffic.refused) == (True, [])
    traffic.change(limit * factor)
    traffic.run(60)
    traffic.run(30)
    assert traffic.share(30) >= 0.9
    traffic.change(limit)
    traffic.run(120)
    assert traffic.share(30) >= 0.9


@given(st.integers(1, 1000), st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), max_size=30))
def test_the_number_stays_between_none_and_what_was_declared(declared: int, events: list[tuple[bool, int]]):
    number, now = LearnedNumber(), 0.0
    for full, ours in events:
        number = number.full(min(ours, declared), now) if full else number.came(min(ours, declared), declared)
        now += 1.0
        assert 0 <= number.most(declared, now) <= declared


def test_a_full_account_is_tried_by_one_after_half_a_minute_and_grows_by_each_that_comes():
    full = LearnedNumber().full(7, 100.0)
    assert [full.most(20, at) for at in (100.0, 100.0 + PROBE_AFTER_SECONDS - 1)] == [7, 7]
    assert full.most(20, 100.0 + PROBE_AFTER_SECONDS) == 8
    grown = full.came(8, 20)
    assert grown.most(20, 200.0) == 9
    assert grown.came(20, 20) == LearnedNumber()
    assert grown.full(8, 200.0).most(20, 201.0) == 8
