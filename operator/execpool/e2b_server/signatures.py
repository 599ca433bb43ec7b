"""E2B's signed URLs, to find whose token made one: it holds no id. Pure. The executor checks it again, and its time.

signature = "v1_" + unpadded base64 of SHA-256("path:operation:user:token[:expiration]")
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping


def is_signed_by(token: str, method: str, query: Mapping[str, list[str]]) -> bool:
    """True when a token made a URL's signature."""
    return secrets.compare_digest(_one(query, "signature").encode(), _sign(token, method, query).encode())


def _sign(token: str, method: str, query: Mapping[str, list[str]]) -> str:
    operation = "read" if method == "GET" else "write"
    parts = [_one(query, "path"), operation, _one(query, "username"), token]
    if expiration := _one(query, "signature_expiration"):
        parts.append(expiration)
    digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
    return "v1_" + base64.b64encode(digest).rstrip(b"=").decode()


def _one(query: Mapping[str, list[str]], name: str) -> str:
    return query.get(name, [""])[-1]
