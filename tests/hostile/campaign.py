"""`python -m tests.hostile.campaign VARIANT...`: the light programs on a local executor; prints reports as JSON.

Runs contained only (`contain`), by tests/component/test_hostile.py. The full set belongs into a real pod
(tests/e2e/test_hostile_pod.py).
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace

import aiohttp

from tests.component.executor_process import LocalExecutor, executor
from tests.hostile import residue
from tests.hostile.client import Holder
from tests.hostile.contain import must_be_contained
from tests.hostile.local import LocalGround
from tests.hostile.model import Program
from tests.hostile.programs import PROGRAMS
from tests.hostile.trial import Campaign, Report

LIMIT_SECONDS = 0.4
"""Of every program, so that the whole set takes seconds."""
MEMORY_BYTES = 1 << 30


@asynccontextmanager
async def ground(variant: str) -> AsyncIterator[tuple[LocalExecutor, LocalGround]]:
    """Start and claim an executor for a variant."""
    must_be_contained()
    variables = {"EXECPOOL_RUNTIME": "Monty"} if variant == "monty" else {}
    async with (
        executor(slots=4, memory_bytes=MEMORY_BYTES, runner_variables=variables) as local,
        aiohttp.ClientSession() as http,
    ):
        holder = Holder(http, local.data_url, local.control_url, local.secret)
        await holder.claim()
        yield local, LocalGround(local, holder)


async def run(variant: str, programs: list[Program]) -> Report:
    """Try programs of one variant on a fresh executor."""
    async with ground(variant) as (_, place):
        return await Campaign(place, variant).run(programs)


async def look_for_residue() -> dict[str, list[str]]:
    """Return the channels by which a stateless run sees the one before it, alone and with another beside; and its own."""
    async with ground("stateless") as (local, place):
        places = {"SCRATCH": str(local.scratch_dir), "SHM": str(local.directory / "shm")}
        return {
            "itself": await residue.visible_to_itself(place.holder, places),
            "alone": await residue.visible(place.holder, places, beside=False),
            "beside": await residue.visible(place.holder, places, beside=True),
        }


def main(arguments: list[str]) -> int:
    """Run what is named: variants, or `residue`; `NAME=` picks programs by a part of their name, `EVERY=` each n-th."""
    options = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    light = [program for program in PROGRAMS if program.light and options.get("NAME", "") in program.name]
    chosen = [replace(program, seconds=LIMIT_SECONDS) for program in light[:: int(options.get("EVERY", "1"))]]
    reports = {}
    for name in arguments:
        if name == "residue":
            reports[name] = asyncio.run(look_for_residue())
        elif "=" not in name:
            reports[name] = asdict(asyncio.run(run(name, chosen)))
    print(json.dumps(reports))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
