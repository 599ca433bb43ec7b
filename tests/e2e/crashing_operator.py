"""The real operator, which kills itself with SIGKILL at the nth write of a kind: before it is sent or after its answer.

    python crashing_operator.py "POST pods 2 after"

The place is a method, a resource's plural, a number and an instant; no argument runs it undisturbed.
"""

import os
import signal
import sys
from typing import Any

from execpool.controller import main
from execpool.kube.client import KubeClient


def arm(method: str, plural: str, number: int, instant: str) -> None:
    genuine = KubeClient._request
    seen = 0

    async def request(self: KubeClient, verb: str, kind: Any, path: str, **options: Any) -> Any:
        nonlocal seen
        here = verb == method and kind.plural == plural
        seen += here
        chosen = here and seen == number  # decided now: others of the kind may pass while this one is on its way
        if chosen and instant == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = await genuine(self, verb, kind, path, **options)
        if chosen and instant == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    KubeClient._request = request  # type: ignore[method-assign]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        method, plural, number, instant = sys.argv[1].split()
        arm(method, plural, int(number), instant)
    main.run()
