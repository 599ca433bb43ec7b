"""Reads the bodies of control-plane calls. Pure. What is not emulated is refused rather than ignored, where it would matter."""

from collections.abc import Mapping
from typing import Any

from execpool.e2b_server.errors import InvalidError, NoTemplateError, NotOfferedError
from execpool.e2b_server.reading import flag_in, object_in, read_timeout, texts_in
from execpool.emulator.account import DEFAULT_TIMEOUT_SECONDS, Order
from execpool.emulator.plans import TEMPLATES, Template

V1_TIMEOUT_SECONDS = 15
"""The documented default of the first version of the API; its clients always name one."""
_NOT_OFFERED = ("iam", "volumeMounts", "mcp")
_NOT_OFFERED_NETWORK = ("allowOut", "dnsServers", "egressProxy", "maskRequestHost", "httpsPorts", "rules")


def read_order(body: Mapping[str, Any], *, version: int) -> Order:
    """Read what a creation asks for.

    Raises:
        InvalidError: it is not as it has to be.
        NoTemplateError: there is no such template.
        NotOfferedError: it needs what only the real service has.
    """
    network = object_in(body, "network")
    _refuse_not_offered(body, network)
    pauses = flag_in(body, "autoPause", default=False)
    if not flag_in(body, "autoPauseMemory", default=True):
        raise NotOfferedError("pausing without memory (autoPauseMemory: false) is not emulated")
    resumes = flag_in(object_in(body, "autoResume"), "enabled", default=False)
    return Order(
        template=_template(body.get("templateID")),
        timeout_seconds=read_timeout(body, DEFAULT_TIMEOUT_SECONDS if version > 1 else V1_TIMEOUT_SECONDS),
        metadata=texts_in(body, "metadata"),
        env_vars=texts_in(body, "envVars"),
        pauses_at_deadline=pauses,
        auto_resume=pauses and resumes,
        internet=flag_in(body, "allow_internet_access", default=True) and not network.get("denyOut"),
        private_traffic=not flag_in(network, "allowPublicTraffic", default=True),
    )


def _refuse_not_offered(body: Mapping[str, Any], network: Mapping[str, Any]) -> None:
    wanted = [name for name in _NOT_OFFERED if body.get(name)]
    wanted += [f"network.{name}" for name in _NOT_OFFERED_NETWORK if network.get(name)]
    if wanted:
        raise NotOfferedError(f"not emulated: {', '.join(wanted)}")


def _template(name: object) -> Template:
    if not isinstance(name, str) or not name:
        raise InvalidError("templateID must be a text")
    template = TEMPLATES.get(name.partition(":")[0])
    if template is None:
        raise NoTemplateError(f"template '{name[:100]}' not found")
    return template
