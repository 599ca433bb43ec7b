"""Monty answers as CPython does, or not at all: a table of programs by subject, and random ones."""

import asyncio
import threading

import pytest
from tests.component import monty_grammar, monty_reference
from tests.component.monty_programs import EQUAL, REFUSED

RANDOM_PROGRAMS = 1_000


class Monty:
    """One pool in a loop of its own, so that hypothesis, which knows no coroutines, can ask it."""

    def __init__(self, directory):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._engine = monty_reference.engine(directory)
        self._await(self._engine.__aenter__())

    def answer(self, code):
        return self._await(monty_reference.monty(self._engine, code))

    def close(self):
        self._await(self._engine.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _await(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


@pytest.fixture(scope="module")
def monty(tmp_path_factory):
    running = Monty(tmp_path_factory.mktemp("monty"))
    yield running
    running.close()


@pytest.mark.parametrize("subject", EQUAL)
def test_these_programs_are_answered_as_cpython_does(monty, subject):
    for code in EQUAL[subject]:
        answer = monty.answer(code)
        assert not isinstance(answer, str), (answer, code)
        assert monty_reference.difference(code, answer) == ""


@pytest.mark.parametrize("subject", REFUSED)
def test_what_differs_or_raises_is_not_answered(monty, subject):
    for code in REFUSED[subject]:
        assert isinstance(monty.answer(code), str), code


def test_random_programs_are_answered_as_cpython_does_or_not_at_all(monty):
    answered = 0
    for seed in range(RANDOM_PROGRAMS):
        code = monty_grammar.program(seed)
        answer = monty.answer(code)
        answered += not isinstance(answer, str)
        assert monty_reference.difference(code, answer) == "", seed
    assert answered > RANDOM_PROGRAMS / 4


def test_a_run_leaves_nothing_for_the_next_one_in_the_same_worker(monty):
    assert monty.answer("left = 5\nimport math\nleft") == monty_reference.Answer("", "5")
    for code in ("print(left)", "print(math.pi)", "globals()", "print(_execpool_value)"):
        assert isinstance(monty.answer(code), str), code
    first = monty.answer("import random\nrandom.random()")
    assert first != monty.answer("import random\nrandom.random()")
    monty.answer("import random\nrandom.seed(1)")
    assert monty.answer("import random\nrandom.random()") != monty.answer("import random\nrandom.random()")
