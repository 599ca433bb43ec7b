"""Names and secrets of sessions: enough randomness, in the alphabet of E2B's clients, one door each."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.core import sessions
from execpool.core.proof import KeyRing, RootKey
from execpool.core.sessions import Door

OLD, NEW = RootKey(b"o" * 32), RootKey(b"n" * 32)
RING = KeyRing((NEW, OLD))
ID = sessions.session_id(bytes(range(16)))


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_ids_are_as_different_as_what_they_are_made_of_and_fit_into_a_host_name(one, other):
    first, second = sessions.session_id(one), sessions.session_id(other)
    assert (first == second) == (one == other)
    assert re.fullmatch(r"[a-z0-9]{26}", first)
    assert sessions.is_session_id(first)


@pytest.mark.parametrize("text", ["", "i", ID[:-1], ID + "0", ID.upper(), "x" + ID[1:], ID + "\n", f"{ID}-6532622b"])
def test_what_is_no_id_of_ours_is_known_by_its_form(text):
    assert not sessions.is_session_id(text)


def test_a_token_opens_one_door_of_one_session_of_one_pool():
    token = sessions.token(NEW, "pool", ID, Door.ENVD)
    assert sessions.opens(RING, "pool", ID, Door.ENVD, token)
    assert not sessions.opens(RING, "pool", ID, Door.TRAFFIC, token)
    assert not sessions.opens(RING, "other", ID, Door.ENVD, token)
    assert not sessions.opens(RING, "pool", "i" + "0" * 25, Door.ENVD, token)


def test_tokens_of_the_generation_before_are_good_until_it_is_rotated_out():
    token = sessions.token(OLD, "pool", ID, Door.ENVD)
    assert sessions.opens(RING, "pool", ID, Door.ENVD, token)
    assert not sessions.opens(KeyRing((NEW,)), "pool", ID, Door.ENVD, token)


@pytest.mark.parametrize("guess", ["", "é", "\udc80", "0" * 64])
def test_guesses_open_nothing(guess):
    assert not sessions.opens(RING, "pool", ID, Door.ENVD, guess)


@given(st.from_regex(r"ep_[a-z0-9-]{1,63}_[A-Za-z0-9_-]{43}", fullmatch=True))
def test_a_key_in_the_spelling_of_e2b_is_the_same_key(key):
    spelt = sessions.as_e2b_key(key)
    assert re.fullmatch(r"e2b_([0-9a-f]{2})+", spelt)
    assert sessions.from_e2b_key(spelt) == sessions.from_e2b_key(key) == key


@pytest.mark.parametrize(
    "text",
    ["", "e2b_", "e2b_zz", "e2b_abc", "e2b_" + b"other_key".hex(), "e2b_" + "ep_ü".encode().hex(), "key", "e2b_657"],
)
def test_what_is_no_key_in_any_spelling_is_none(text):
    assert sessions.from_e2b_key(text) is None
