"""How claim secrets come from one root key, so that any gateway replica can derive them and no executor can.

    root key  --HKDF-->  pool key  --HMAC-->  claim secret of one executor  --SHA-256-->  the executor's environment

The operator draws a random executor id, which is known before the pod has a UID. Two generations of the root key are
valid at a time; `key_id` says which one an executor was made with (RFC 5869 for HKDF).
"""

import hashlib
import hmac
from dataclasses import dataclass

KEY_BYTES = 32


@dataclass(frozen=True)
class RootKey:
    """One generation of the root key. `repr` never shows it."""

    material: bytes

    def __repr__(self) -> str:
        return f"RootKey({self.key_id})"

    @property
    def key_id(self) -> str:
        """Public name of this generation."""
        return hashlib.sha256(b"execpool/key-id|" + self.material).hexdigest()[:12]

    def pool_key(self, pool_uid: str) -> bytes:
        """Derive the key of one pool (HKDF-SHA-256, one block)."""
        extracted = hmac.new(b"execpool/v1", self.material, hashlib.sha256).digest()
        return hmac.new(extracted, f"pool|{pool_uid}".encode() + b"\x01", hashlib.sha256).digest()

    def sealing_key(self) -> bytes:
        """Derive the key under which tokens of sandboxes are sealed (`core.sealing`), 32 bytes."""
        extracted = hmac.new(b"execpool/v1", self.material, hashlib.sha256).digest()
        return hmac.new(extracted, b"seal/v1\x01", hashlib.sha256).digest()

    def claim_secret(self, pool_uid: str, executor_id: str) -> str:
        """Return the secret that claims one executor of a pool."""
        message = f"claim/v1|{pool_uid}|{executor_id}".encode()
        return hmac.new(self.pool_key(pool_uid), message, hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class KeyRing:
    """The generations in force: new executors use the first, claims try the one that an executor names."""

    keys: tuple[RootKey, ...]

    @property
    def current(self) -> RootKey:
        """The generation for new executors."""
        return self.keys[0]

    def named(self, key_id: str) -> RootKey | None:
        """Return the generation with this id, or None when it has been rotated out."""
        return next((key for key in self.keys if key.key_id == key_id), None)


def principal_id(tenant: str, user: str) -> str:
    """Return the opaque name of a principal: tenant and end user, the unit of isolation.

    Length-prefixed, so that no choice of names makes two principals collide.
    """
    return hashlib.sha256(f"{len(tenant)}:{tenant}|{len(user)}:{user}".encode()).hexdigest()[:32]
