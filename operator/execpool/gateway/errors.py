"""Why an execution is not run: one error type, whose reason is an entry of a closed list.

    GatewayError    refusal (names.Refusal), a sentence with the observed numbers, Retry-After where waiting helps

What goes wrong at an executor is `executors.ExecutorError`; it never reaches a caller as such: `execute.py` goes elsewhere,
or the execution's outcome is Unknown.
"""

from typing import Any

from execpool.api.names import Refusal


class GatewayError(Exception):
    """A refusal. Nothing of the execution has started, nor ever will.

    Attributes:
        refusal: the reason, the same in answer, metric and audit line.
        sentence: for people, with the numbers that led to it.
        retry_after: seconds after which it is worth asking again; None when asking again will not help.
        facts: members added to the problem answer, such as the pools that are known.
    """

    def __init__(self, refusal: Refusal, sentence: str, *, retry_after: float | None = None, **facts: Any) -> None:
        super().__init__(f"{refusal}: {sentence}")
        self.refusal = refusal
        self.sentence = sentence
        self.retry_after = retry_after
        self.facts = facts
