"""Who a key names, and who is turned away."""

import hashlib
from typing import Any

import pytest

from execpool.api.names import Refusal
from execpool.gateway.auth import Keys
from execpool.gateway.errors import GatewayError
from execpool.kube.client import EventType

SECRET = "ep_team_secret"


def hash_of(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


HASH = hash_of(SECRET)
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def wire(name: str = "k", namespace: str = "team", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}"},
        "spec": {"keyHash": HASH, "tenant": "acme"} | spec,
    }


def keys(*objects: dict[str, Any]) -> Keys:
    known = Keys(now=lambda: NOW)
    for one in objects:
        known.on_change(EventType.ADDED, one)
    return known


def denied(known: Keys, header: str | None = f"Bearer {SECRET}") -> str:
    with pytest.raises(GatewayError) as caught:
        known.authenticate(header)
    assert caught.value.refusal is Refusal.UNAUTHENTICATED
    assert SECRET not in caught.value.sentence
    return caught.value.sentence


def test_a_key_names_its_tenant_and_namespace() -> None:
    caller = keys(wire()).authenticate(f"Bearer {SECRET}")
    assert (caller.tenant, caller.namespace, caller.key) == ("acme", "team", "k")


def test_the_scheme_may_be_written_small() -> None:
    assert keys(wire()).authenticate(f"bearer {SECRET}").tenant == "acme"


def test_a_key_without_pools_sees_all_and_one_with_pools_only_those() -> None:
    assert keys(wire()).authenticate(f"Bearer {SECRET}").sees("any")
    caller = keys(wire(pools=["a"])).authenticate(f"Bearer {SECRET}")
    assert (caller.sees("a"), caller.sees("b")) == (True, False)


@pytest.mark.parametrize(
    "header", [None, "", SECRET, "Bearer", "Bearer ", f"Basic {SECRET}", f"Bearer {SECRET} x", "Bearer " + "x" * 600]
)
def test_without_a_bearer_token_nobody_is_known(header: str | None) -> None:
    assert "needed" in denied(keys(wire()), header)


def test_an_unknown_key_is_denied() -> None:
    assert "not known" in denied(keys(wire(keyHash="0" * 64)))


def test_a_disabled_key_is_denied() -> None:
    assert "disabled" in denied(keys(wire(disabled=True)))


@pytest.mark.parametrize(("expires", "valid"), [("2026-01-01T00:00:01Z", True), ("2026-01-01T00:00:00Z", False)])
def test_a_key_is_valid_until_it_expires(expires: str, valid: bool) -> None:
    known = keys(wire(expiresAt=expires))
    if valid:
        assert known.authenticate(f"Bearer {SECRET}").tenant == "acme"
    else:
        assert "expired" in denied(known)


def test_a_deleted_key_is_denied() -> None:
    known = keys(wire())
    known.on_change(EventType.DELETED, wire())
    assert "not known" in denied(known)


def test_a_changed_hash_replaces_the_old_one() -> None:
    known = keys(wire())
    known.on_change(EventType.MODIFIED, wire(keyHash="0" * 64))
    assert "not known" in denied(known)


def test_two_objects_with_one_hash_are_denied_both_until_one_is_gone() -> None:
    known = keys(wire(), wire("copy"))
    assert "ambiguous" in denied(known)
    known.on_change(EventType.DELETED, wire("copy"))
    assert known.authenticate(f"Bearer {SECRET}").key == "k"


def test_a_hash_copied_into_another_namespace_changes_nothing() -> None:
    for known in (keys(wire(), wire(namespace="thief")), keys(wire(namespace="thief"), wire())):
        assert known.authenticate(f"Bearer {SECRET}").namespace == "team"
    assert "not known" in denied(keys(wire(namespace="thief")))


@pytest.mark.parametrize(
    "secret", ["ep_secret", "secret", "ep__secret", "ep_team_", "team_secret", "ep_Team_x", "ep_a.b_x"]
)
def test_a_key_that_does_not_name_its_namespace_is_not_known(secret: str) -> None:
    assert "not known" in denied(keys(wire(keyHash=hash_of(secret))), f"Bearer {secret}")


def test_a_key_may_have_more_underscores_after_its_namespace() -> None:
    secret = "ep_team-a_b_c_-"
    known = keys(wire(namespace="team-a", keyHash=hash_of(secret)))
    assert known.authenticate(f"Bearer {secret}").namespace == "team-a"


def test_an_object_that_cannot_be_read_is_no_key() -> None:
    assert "not known" in denied(keys(wire(tenant="")))
    assert "not known" in denied(keys({"metadata": {"name": "k", "namespace": "n", "uid": "u"}}))


def test_a_key_that_becomes_unreadable_is_no_longer_valid() -> None:
    known = keys(wire())
    known.on_change(EventType.MODIFIED, wire(tenant="Not A Label"))
    assert "not known" in denied(known)
