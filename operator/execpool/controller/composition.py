"""What attends to E2B accounts, put together from settings, for one term of leadership."""

import time

from execpool.controller.accounts import AccountRounds
from execpool.controller.credentials import CredentialsReader
from execpool.controller.equipping import Equipper
from execpool.controller.leadership import Leadership
from execpool.kube.client import Kube
from execpool.providers.e2b.client import E2BClient
from execpool.providers.e2b.desks import Desks
from execpool.providers.e2b.recording import Recorder
from execpool.providers.e2b.records import RecordWriter
from execpool.providers.e2b.slot_driver import SlotDriver
from execpool.providers.e2b.sweeping import Sweeper
from execpool.providers.e2b.tags import Tagger
from execpool.settings import OperatorSettings

SERVICE_ACCOUNT = "execpool-operator"


def make_rounds(settings: OperatorSettings, kube: Kube, leadership: Leadership) -> AccountRounds:
    """Return what attends to accounts, with nothing in its memory."""
    writer = RecordWriter(kube)
    tagger = Tagger(settings.cluster_id, leadership.epoch)
    return AccountRounds(
        kube=kube,
        desks=Desks(),
        driver=SlotDriver(writer, Recorder(writer, settings.key_ring()), tagger, time.time),
        sweeper=Sweeper(tagger, time.time),
        equipper=Equipper(
            reader=CredentialsReader(kube, f"{settings.namespace}:{SERVICE_ACCOUNT}"),
            make_client=lambda url, key: E2BClient(url, key, may_act=leadership.may_write),
            endpoints=settings.allowed_endpoints(),
            steady=time.monotonic,
        ),
        control_namespace=settings.namespace,
        namespaces=settings.watched_namespaces(),
    )
