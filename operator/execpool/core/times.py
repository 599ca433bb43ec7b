"""Times as the API has them (RFC 3339) and as decisions have them (UNIX seconds). Pure."""

from datetime import UTC, datetime


def parse_time(text: str) -> float:
    """Return the UNIX seconds of an RFC 3339 time. Raises ValueError."""
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def format_time(seconds: float) -> str:
    """Return it as RFC 3339 with microseconds, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def format_seconds(seconds: float) -> str:
    """Return it as RFC 3339 with whole seconds, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
