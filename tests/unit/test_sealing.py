"""Sealed tokens open for their record and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.core.proof import KeyRing, RootKey
from execpool.core.sealing import NONCE_BYTES, SandboxAccess, SealError, seal, unseal

OLD, NEW = RootKey(b"o" * 32), RootKey(b"n" * 32)
RING = KeyRing((NEW, OLD))
ACCESS = SandboxAccess("i123", "https://{port}-i123.e2b.app", "envd-secret", "traffic-secret")
NONCE = bytes(NONCE_BYTES)


@pytest.mark.parametrize("key", [OLD, NEW])
def test_what_was_sealed_opens_while_its_root_key_is_in_force(key: RootKey):
    assert unseal(RING, "record", "i123", seal(key, "record", ACCESS, NONCE)) == ACCESS


def test_a_root_key_that_was_rotated_out_opens_nothing():
    with pytest.raises(SealError, match="not in force"):
        unseal(KeyRing((NEW,)), "record", "i123", seal(OLD, "record", ACCESS, NONCE))


@pytest.mark.parametrize(("record", "sandbox"), [("another", "i123"), ("record", "i124"), ("recor", "di123")])
def test_it_does_not_open_for_another_record_or_sandbox(record: str, sandbox: str):
    with pytest.raises(SealError, match="not sealed for this record"):
        unseal(RING, record, sandbox, seal(NEW, "record", ACCESS, NONCE))


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_opens_nothing(place: int, change: int):
    sealed = bytearray(seal(NEW, "record", ACCESS, NONCE).encode())
    place %= len(sealed)
    sealed[place] = (sealed[place] + change) % 256
    with pytest.raises(SealError):
        unseal(RING, "record", "i123", sealed.decode("latin-1"))


def test_another_spelling_of_the_same_bytes_opens_nothing():
    for byte in range(256):  # until a nonce makes a `-`, which `+` stands for in the other alphabet
        sealed = seal(NEW, "record", ACCESS, bytes([byte]) * NONCE_BYTES)
        if "-" in sealed:
            with pytest.raises(SealError):
                unseal(RING, "record", "i123", sealed.replace("-", "+"))
            return
    pytest.fail("no nonce made one")


@given(st.text(max_size=200))
def test_any_text_opens_or_is_refused(text: str):
    with pytest.raises(SealError):
        unseal(RING, "record", "i123", text)


def test_tokens_are_not_in_what_is_shown():
    assert "secret" not in repr(ACCESS)
    assert "secret" not in seal(NEW, "record", ACCESS, NONCE)
