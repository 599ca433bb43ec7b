"""Every kopf decorator there is. Handlers nudge; nothing is decided and nothing is written here.

Only `on.event` is used: kopf then writes nothing to any object. Daemons, timers and create or update handlers each add
a finalizer or an annotation, or miss objects that were deleted while the operator was down (DESIGN section 6).
"""

from typing import Any

import kopf

from execpool.api import names
from execpool.controller.account_tasks import AccountTasks
from execpool.controller.pools import ref_of
from execpool.controller.tasks import PoolTasks
from execpool.kube.client import make_session
from execpool.kube.kinds import ACCOUNTS, PODS, POOLS, SANDBOXES
from execpool.providers.e2b.records import AccountName


def make_registry(tasks: PoolTasks, accounts: AccountTasks, configuration: Any) -> kopf.OperatorRegistry:
    """Return the handlers of one term.

    Args:
        tasks: whom to nudge about pools.
        accounts: whom to nudge about accounts and their records.
        configuration: of `kube.client.load_configuration`; kopf's watches use a session with a bearer of each moment,
            since it gives up for good after a single 401.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=configuration.host, aiohttp_session=make_session(configuration))

    @kopf.on.event(POOLS.group, POOLS.version, POOLS.plural, registry=registry)
    async def pool_changed(body: kopf.Body, **_: Any) -> None:
        tasks.nudge(ref_of(dict(body)))

    @kopf.on.event(PODS.version, PODS.plural, registry=registry, labels={names.LABEL_POOL_UID: kopf.PRESENT})
    async def executor_changed(labels: kopf.Labels, **_: Any) -> None:
        tasks.nudge_uid(labels[names.LABEL_POOL_UID])

    @kopf.on.event(ACCOUNTS.group, ACCOUNTS.version, ACCOUNTS.plural, registry=registry)
    async def account_changed(namespace: str | None, name: str, **_: Any) -> None:
        accounts.nudge(AccountName(namespace or "", name))

    @kopf.on.event(SANDBOXES.group, SANDBOXES.version, SANDBOXES.plural, registry=registry)
    async def sandbox_changed(body: kopf.Body, labels: kopf.Labels, **_: Any) -> None:
        tasks.nudge_uid(labels.get(names.LABEL_POOL_UID, ""))
        accounts.nudge_account_of(dict(body))

    return registry


def make_settings() -> kopf.OperatorSettings:
    """Return kopf's settings as measured to be right on a real API server (DESIGN section 6)."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.scanning.disabled = True
    settings.watching.label_selectors[PODS.plural] = names.LABEL_POOL
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    # A growing back-off keeps sleeping after the API server is back: a new pool waited 9 s for that.
    settings.networking.error_backoffs = [1] * 60
    return settings
