"""How the tokens of a sandbox come from the operator to the gateways through a record that others may read. Pure.

A record is readable by whoever may read records, and writable by whoever may write them. So what is in it is sealed by
AES-256-GCM (NIST SP 800-38D) under a key that operator and gateways derive from the root key, and bound to the record's UID
and the sandbox's id: moved to another record, or changed, it does not open. What a gateway connects to comes from the sealed
part alone; nobody can aim a gateway at a host by writing a record.

    v1.<key id>.<base64url of nonce and ciphertext>
"""

import base64
import binascii
import json
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from execpool.core.proof import KeyRing, RootKey

NONCE_BYTES = 12
_VERSION = "v1"


class SealError(ValueError):
    """It cannot be opened: another root key, another record, or changed."""


@dataclass(frozen=True)
class SandboxAccess:
    """What it takes to reach the data plane of one sandbox. `repr` never shows the tokens."""

    sandbox_id: str
    url: str
    """Scheme, host and port; `{port}` stands for the port inside the sandbox where each has a host of its own."""
    envd_token: str = ""
    traffic_token: str = ""

    def __repr__(self) -> str:
        return f"SandboxAccess({self.sandbox_id} at {self.url})"


def seal(key: RootKey, record_uid: str, access: SandboxAccess, nonce: bytes) -> str:
    """Return the sealed form. `nonce` is NONCE_BYTES from a secure source, never used twice."""
    opened = json.dumps(asdict(access), separators=(",", ":")).encode()
    closed = AESGCM(key.sealing_key()).encrypt(nonce, opened, _bound_to(record_uid, access.sandbox_id))
    return f"{_VERSION}.{key.key_id}.{base64.urlsafe_b64encode(nonce + closed).decode()}"


def unseal(keys: KeyRing, record_uid: str, sandbox_id: str, sealed: str) -> SandboxAccess:
    """Open what was sealed for this record and sandbox.

    Raises:
        SealError: when it cannot be opened.
    """
    version, _, rest = sealed.partition(".")
    key_id, _, text = rest.partition(".")
    key = keys.named(key_id)
    if version != _VERSION or key is None:
        raise SealError(f"sealed by a root key that is not in force: {key_id[:12]!r}")
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
        if base64.urlsafe_b64encode(raw).decode() != text:
            raise ValueError("not the one way to write these bytes")  # noqa: TRY301 - told below as all the others
        nonce, closed = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
        opened = AESGCM(key.sealing_key()).decrypt(nonce, closed, _bound_to(record_uid, sandbox_id))
        return SandboxAccess(**json.loads(opened))
    except (InvalidTag, binascii.Error, ValueError, TypeError) as error:
        raise SealError(f"the tokens of sandbox {sandbox_id[:64]!r} are not sealed for this record") from error


def key_id_of(sealed: str) -> str:
    """Return the id of the root key that something was sealed under; empty when it says none."""
    version, _, rest = sealed.partition(".")
    return rest.partition(".")[0] if version == _VERSION else ""


def _bound_to(record_uid: str, sandbox_id: str) -> bytes:
    return f"{len(record_uid)}:{record_uid}|{sandbox_id}".encode()
