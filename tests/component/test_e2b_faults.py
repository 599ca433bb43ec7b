"""Every call to E2B meets every fault, once and three times in a row: in the end all is as it was wanted, by E2B's ledger."""

import pytest
from tests.component.account_world import account_world
from tests.component.scripted_e2b import Fault, Hang, Late, Reset, Status

from execpool.core.slots import LONG_TTL_SECONDS

FAULTS: list[Fault] = [
    Hang(),
    Hang(commits=True),
    Reset(),
    Reset(commits=True),
    Late(12.0),
    Status(400),
    Status(403),
    Status(404),
    Status(409),
    Status(413),
    Status(429),
    Status(429, retry_after="3"),
    Status(500),
    Status(502, body="<html>bad gateway</html>"),
    Status(503, retry_after="2"),
    Status(504, commits=True),
    Status(200, body="{"),
    Status(201, body='{"sandboxID": "../x"}', commits=True),
    Status(204, body=""),
    Status(307),
]
LIES = [Status(204, body="")]
"""To a kill that has not happened; a 404 is held against the list."""


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("operation", ["create", "connect", "extend", "kill", "list"])
async def test_every_fault_of_a_call_is_survived(operation: str, times: int):
    for fault in FAULTS:
        async with account_world() as world:
            left = [fault] * times
            lost = [Reset(commits=True)] if operation in ("connect", "list") else []

            def script(name: str, left: list = left, lost: list = lost, fault: Fault = fault) -> Fault | None:
                if name == "create" and lost:
                    return lost.pop()
                return left.pop() if name == operation and left else None

            world.e2b.fault = script
            world.apply_pool(2)
            await world.run(320, step=4)
            assert world.verdict(2) == (0, 0, 0), fault
            world.apply_pool(0)
            await world.run(200, step=4)
            if operation == "kill" and fault in LIES:
                world.now += LONG_TTL_SECONDS  # what E2B says is gone is believed; then only its deadline ends it
            assert (world.records(), world.e2b.alive()) == ([], {}), fault
            assert world.e2b.most_of_one_record == 1, fault
            assert len(left) < times, "it was met"
