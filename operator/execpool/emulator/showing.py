"""How a sandbox of the account is told to clients. Pure."""

from execpool.e2b_server.views import Shown, View
from execpool.emulator.account import Sandbox, State


def view_of(sandbox: Sandbox) -> View:
    """Return what clients are told of a sandbox that runs or is paused."""
    order = sandbox.order
    return View(
        id=sandbox.id,
        template=order.template.name,
        state=Shown.PAUSED if sandbox.state is State.PAUSED else Shown.RUNNING,
        started_at=sandbox.started_at,
        ends_at=sandbox.deadline,
        metadata=order.metadata,
        cpu_count=order.template.cpu_count,
        memory_mb=order.template.memory_mb,
        internet=order.internet,
        private_traffic=order.private_traffic,
        pauses_at_deadline=order.pauses_at_deadline,
        auto_resume=order.auto_resume,
    )
