"""The gateway in front of E2B's data plane: records are claimed, code runs, and nobody meets anybody else's sandbox."""

import asyncio
from typing import Any

from tests.component.e2b_sandboxes import (
    COUNT,
    END,
    Sandbox,
    e2b_pool,
    edge,
    kube_with,
    record_writes,
    said,
    streaming,
)
from tests.component.gateway_world import GatewayWorld, gateway_world

from execpool.core.proof import principal_id
from execpool.kube.kinds import SANDBOXES


async def test_one_record_is_claimed_and_code_runs_in_its_sandbox() -> None:
    async with edge() as account:
        one = account.scripted("one")
        kube = kube_with(one)
        async with gateway_world(kube=kube, pools=[e2b_pool()]) as world:
            answer = await world.run("print('ran')", env={"A": "b"})
            await world.until(lambda: not one.contexts)
    assert (answer["status"], answer["stdout"], answer["route"]["tier"]) == ("Succeeded", "ran", "e2b")
    (claim,) = record_writes(kube)
    assert claim.body["status"]["claim"] | {"claimedAt": ""} == {
        "principal": principal_id("acme", ""),
        "gateway": "gw-0",
        "epoch": 1,
        "claimedAt": "",
    }
    assert one.bodies[0]["env_vars"] == {"A": "b"}
    assert [call.split("/")[0] + call.split("/")[1] for call in one.calls] == [
        "POST contexts",
        "POST execute",
        "DELETE contexts",
    ]
