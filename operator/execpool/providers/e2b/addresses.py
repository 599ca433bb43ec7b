"""Where an account's API may be, and where its sandboxes are. Pure.

Nobody who can write an account may aim the operator, or its Secret, at a host: the API's address must be one that the
operator's settings name. Sandboxes of E2B itself have a host each; a service that merely speaks its protocol, such as the
emulator, has one address for everything and finds the sandbox by the headers that every request carries.
"""

from urllib.parse import urlsplit

SERVICE_DOMAINS = frozenset({"e2b.app", "e2b.dev", "e2b.pro", "e2b-staging.dev"})
"""Where E2B itself lives, as its own clients have it."""
_PORTS = {"http": 80, "https": 443}


def endpoint_of(url: str) -> tuple[str, str, int] | None:
    """Return scheme, host and port, by which addresses are compared; None for what is no such address."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    extra = parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password
    if not parts.hostname or not port or parts.scheme not in _PORTS or extra:
        return None
    return parts.scheme, parts.hostname.lower(), port


def is_allowed(api_url: str, allowed: tuple[str, ...]) -> bool:
    """True when an account's address is one that the settings name."""
    endpoint = endpoint_of(api_url)
    return endpoint is not None and endpoint in {endpoint_of(url) for url in allowed}


def is_e2bs_own(api_url: str) -> bool:
    """True for the address of E2B itself, rather than of a service that speaks its protocol."""
    return _service_domain(api_url) is not None


def sandbox_url(api_url: str, sandbox_id: str, domain: str) -> str:
    """Return the data plane's address of a sandbox; `{port}` in it stands for the port inside.

    Args:
        api_url: of the account.
        sandbox_id: E2B's id.
        domain: as the creation's answer has it; believed only when it is one of E2B's own.
    """
    own = _service_domain(api_url)
    if own is None:
        return api_url.rstrip("/")
    return f"https://{{port}}-{sandbox_id}.{domain if domain in SERVICE_DOMAINS else own}"


def _service_domain(api_url: str) -> str | None:
    host = urlsplit(api_url).hostname or ""
    domain = host.partition(".")[2]
    return domain if domain in SERVICE_DOMAINS else None
