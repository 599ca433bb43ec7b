"""How long a new executor takes from the runner's first moment until it takes forks, and what of it are imports.

Logs say when something was done, /proc when the process began. The peers run in the same container afterwards: the same
imports by an interpreter with the image's bytecode, and by one that may not use it.
"""

import time
from datetime import datetime
from typing import Any

import orjson

from benchmarks.cluster import Namespace
from benchmarks.figures import BenchmarkError, Result, times
from benchmarks.held import Held, hold
from benchmarks.processes import age_seconds

PODS = 3
_IMPORTS = "IPython, numpy, pandas"
_PEER = f"""
import os, subprocess, sys, time
def took(**variables):
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import {_IMPORTS}"], check=True, env={{**os.environ, **variables}})
    return time.perf_counter() - began
took()
print([[took(), took(PYTHONPYCACHEPREFIX="/tmp/none")] for _ in range(2)])
"""


async def measure(space: Namespace) -> Result:
    connected, imports, kept, without = [], [], [], []
    for _ in range(PODS):
        held = await hold(space)
        began = time.time() - age_seconds(min(held.runner()))
        runner, server = await _log(space, held, "runner"), await _log(space, held, "server")
        imports.append(_said(runner, "imports done")["seconds"])
        connected.append(_when(_said(server, "runner ready")) - began)
        for with_bytecode, never in orjson.loads(await held.exec_in_runner(_PEER)):
            kept.append(with_bytecode)
            without.append(never)
        await space.empty()
    return Result(
        rows=(
            times(f"peer: a new interpreter imports {_IMPORTS}", kept),
            times("the same without bytecode", without, peer=kept),
            times("imports, heap frozen, measures tried", imports, peer=kept),
            times("runner's first moment -> connected to the server", connected, peer=kept),
        ),
        notes=("create -> ready of a pod is in `pool_ready`; the rest of it is the kubelet's.",),
    )


async def _log(space: Namespace, held: Held, container: str) -> list[Any]:
    meta = held.pod["metadata"]
    url = f"{space.cluster.api_url}/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/log?container={container}"
    async with space.cluster.api.get(url) as response:
        return [orjson.loads(line) for line in (await response.read()).splitlines() if line.startswith(b"{")]


def _said(lines: list[Any], message: str) -> Any:
    """Return the first line with this message."""
    for line in lines:
        if line["message"] == message:
            return line
    raise BenchmarkError(f"the log does not say {message!r}")


def _when(line: Any) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()
