"""Reads the bodies of control-plane calls. Pure. What is not emulated is refused rather than ignored, where it would matter."""

from collections.abc import Mapping
from typing import Any

from execpool.emulator.account import DEFAULT_TIMEOUT_SECONDS, Order
from execpool.emulator.errors import InvalidError, NoTemplateError, NotEmulatedError
from execpool.emulator.plans import TEMPLATES, Template

V1_TIMEOUT_SECONDS = 15
"""The documented default of the first version of the API; its clients always name one."""
_NOT_EMULATED = ("iam", "volumeMounts", "mcp")
_NOT_EMULATED_NETWORK = ("allowOut", "dnsServers", "egressProxy", "maskRequestHost", "httpsPorts", "rules")


def read_order(body: Mapping[str, Any], *, version: int) -> Order:
    """Read what a creation asks for.

    Raises:
        InvalidError: it is not as it has to be.
        NoTemplateError: there is no such template.
        NotEmulatedError: it needs what only the real service has.
    """
    network = _object(body, "network")
    _refuse_not_emulated(body, network)
    pauses = _flag(body, "autoPause", default=False)
    if not _flag(body, "autoPauseMemory", default=True):
        raise NotEmulatedError("pausing without memory (autoPauseMemory: false) is not emulated")
    resumes = _flag(_object(body, "autoResume"), "enabled", default=False)
    return Order(
        template=_template(body.get("templateID")),
        timeout_seconds=read_timeout(body, DEFAULT_TIMEOUT_SECONDS if version > 1 else V1_TIMEOUT_SECONDS),
        metadata=_texts(body, "metadata"),
        env_vars=_texts(body, "envVars"),
        pauses_at_deadline=pauses,
        auto_resume=pauses and resumes,
        internet=_flag(body, "allow_internet_access", default=True) and not network.get("denyOut"),
        private_traffic=not _flag(network, "allowPublicTraffic", default=True),
    )


def read_timeout(body: Mapping[str, Any], default: int | None = None) -> int:
    """Read a number of seconds, which may be negative.

    Raises:
        InvalidError: it is none, or missing where there is no default.
    """
    value = body.get("timeout", default)
    if type(value) is not int:
        raise InvalidError("timeout must be a whole number of seconds")
    return value


def _refuse_not_emulated(body: Mapping[str, Any], network: Mapping[str, Any]) -> None:
    wanted = [name for name in _NOT_EMULATED if body.get(name)]
    wanted += [f"network.{name}" for name in _NOT_EMULATED_NETWORK if network.get(name)]
    if wanted:
        raise NotEmulatedError(f"not emulated: {', '.join(wanted)}")


def _template(name: object) -> Template:
    if not isinstance(name, str) or not name:
        raise InvalidError("templateID must be a text")
    template = TEMPLATES.get(name.partition(":")[0])
    if template is None:
        raise NoTemplateError(f"template '{name[:100]}' not found")
    return template


def _object(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidError(f"{name} must be an object")
    return value


def _texts(body: Mapping[str, Any], name: str) -> dict[str, str]:
    values = _object(body, name)
    if not all(isinstance(value, str) for value in values.values()):
        raise InvalidError(f"{name} must be an object of texts")
    return values


def _flag(body: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = body.get(name, default)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidError(f"{name} must be true or false")
    return value
