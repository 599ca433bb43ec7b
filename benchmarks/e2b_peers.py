"""The two ways in which programs get along with E2B's limits, with E2B's own SDK as it is. Run as a process by `e2b_arms.py`.

    naive      while True: try; on a refusal sleep a second
    tenacity   its exponential wait with jitter (from 1 s, doubled, at most 60 s), as long as it takes

Half of the workers create a sandbox and end it, again and again; the others run code in a sandbox of their own. The SDK's
own retries (three, of control-plane calls) are left as they are. A refused execution raises no RateLimitException but a
SandboxException that says 429; whoever caught only the former would end at the first one.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity
from e2b.exceptions import RateLimitException, SandboxException
from e2b_code_interpreter import Sandbox

from benchmarks.e2b_arms import CODE, VALUE, Errand, Tally

T = TypeVar("T")
Retry = Callable[[Callable[[], T]], T]


def is_refusal(error: BaseException) -> bool:
    """True when E2B said that there were too many."""
    return isinstance(error, RateLimitException) or (isinstance(error, SandboxException) and "429" in str(error))


def naive(work: Callable[[], T]) -> T:
    while True:
        try:
            return work()
        except SandboxException as error:
            if not is_refusal(error):
                raise
            time.sleep(1)


@tenacity.retry(retry=tenacity.retry_if_exception(is_refusal), wait=tenacity.wait_exponential_jitter(initial=1, max=60))
def patient(work: Callable[[], T]) -> T:
    return work()


POLICIES: dict[str, Retry] = {"naive": naive, "tenacity": patient}


def create(errand: Errand, retry: Retry, worker: int, tally: Tally) -> None:
    sandbox = retry(lambda: Sandbox.create(**errand.connection))
    tally.creates[worker] += 1
    sandbox.kill()


def execute(sandbox: Sandbox, retry: Retry, worker: int, tally: Tally) -> None:
    if retry(lambda: sandbox.run_code(CODE)).text != VALUE:
        raise AssertionError("an execution did not say what it should")
    tally.executions[worker] += 1


def main() -> None:
    errand, retry = Errand.read(sys.argv[2]), POLICIES[sys.argv[1]]
    tally = Tally.empty(errand)
    ours = [Sandbox.connect(one["sandboxID"], timeout=3600, **errand.connection) for one in errand.sandboxes]
    go = threading.Event()

    def give_up(hook: threading.ExceptHookArgs) -> None:
        sys.__excepthook__(hook.exc_type, hook.exc_value or hook.exc_type(), hook.exc_traceback)
        os._exit(1)

    def keep(work: Callable[[], None]) -> None:
        go.wait()
        while True:
            work()

    threading.excepthook = give_up
    for worker, sandbox in enumerate(ours):
        jobs = (
            lambda worker=worker: create(errand, retry, worker, tally),
            lambda worker=worker, sandbox=sandbox: execute(sandbox, retry, worker, tally),
        )
        for job in jobs:
            threading.Thread(target=keep, args=(job,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.readline()
    go.set()
    sys.stdin.read()
    print(tally.written(), flush=True)
    os._exit(0)  # whoever sleeps sleeps for up to a minute


if __name__ == "__main__":
    main()
