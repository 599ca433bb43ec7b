"""Refusals: everything that the server answers with other than 200, and that means "nothing was started or changed".

    Refusal
    ├── BadRequest 400      the body is not what the protocol says
    ├── Unauthorized 401    no token, or not the claim's
    ├── Forbidden 403       not the secret of this executor
    ├── NotFound 404        no such path; NoContext: as E2B says it
    ├── Conflict 409        held by another principal; not what /retire expected; this execution id was started before
    ├── Gone 410            retired
    ├── StaleEpoch 412      the principal has claimed again since
    ├── TooSlow 408         the body did not come in time
    ├── TooLarge 413        the body is longer than any that is allowed
    ├── WrongPod 421        this address now belongs to another pod
    ├── NoFreeSlot 429      all slots are in use; TooManyContexts
    ├── NoSuchLanguage 500, ContextFailed 500   as E2B says it
    └── NotReady 503        the runner is not there, or could not start the run

Callers decide by the status, people read the message; neither holds anything secret.
"""

from typing import ClassVar


class Refusal(Exception):  # noqa: N818 - the domain's word
    """An answer other than 200: reason in CamelCase, and a sentence."""

    status: ClassVar[int] = 500
    in_plain_text: ClassVar[bool] = False
    """Answered as E2B does it, whose clients show the body to people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class BadRequest(Refusal):
    status = 400


class Unauthorized(Refusal):
    status = 401


class Forbidden(Refusal):
    status = 403


class NotFound(Refusal):
    status = 404


class NoContext(NotFound):
    in_plain_text = True


class ContextAndLanguage(BadRequest):
    in_plain_text = True


class NoSuchLanguage(Refusal):
    in_plain_text = True


class ContextFailed(Refusal):
    in_plain_text = True


class Conflict(Refusal):
    status = 409


class Gone(Refusal):
    status = 410


class StaleEpoch(Refusal):
    status = 412


class TooSlow(Refusal):
    status = 408


class TooLarge(Refusal):
    status = 413


class WrongPod(Refusal):
    status = 421


class NoFreeSlot(Refusal):
    status = 429


class TooManyContexts(NoFreeSlot):
    in_plain_text = True


class NotReady(Refusal):
    status = 503
