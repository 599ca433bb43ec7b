"""From an account's spec to a desk that may ask: the address is on the allow-list, the Secret can be read, its key is used.

While anything is wrong the Secret is looked at every RECHECK_STALLED_SECONDS, so that a mended one heals by itself; while
all is well every RECHECK_SECONDS, so that a rotated key is taken up.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from execpool.api.e2b import E2BAccountSpec
from execpool.api.names import Reason
from execpool.controller.credentials import Credentials, CredentialsError, CredentialsReader
from execpool.kube.errors import FencedError, KubeError
from execpool.providers.e2b.addresses import is_allowed
from execpool.providers.e2b.client import E2BApi
from execpool.providers.e2b.desk import Desk
from execpool.providers.e2b.holds import Hold
from execpool.providers.e2b.records import AccountName

log = logging.getLogger(__name__)

RECHECK_SECONDS = 60.0
RECHECK_STALLED_SECONDS = 5.0


@dataclass(frozen=True)
class _Used:
    """What a desk was equipped with, and when that was last looked at."""

    api_url: str
    secret: str
    version: str
    checked_at: float


@dataclass
class Equipper:
    """Equips desks.

    Attributes:
        reader: reads Secrets.
        make_client: from an address and a key.
        endpoints: addresses that an account may name.
        steady: seconds that never go backwards.
    """

    reader: CredentialsReader
    make_client: Callable[[str, str], E2BApi]
    endpoints: tuple[str, ...]
    steady: Callable[[], float]
    _used: dict[AccountName, _Used] = field(default_factory=dict)

    def forget(self, name: AccountName) -> None:
        """Drop what is remembered of an account that is gone."""
        self._used.pop(name, None)

    def rests(self, desk: Desk) -> float:
        """Return for how many seconds the Secret need not be looked at."""
        used = self._used.get(desk.name)
        if used is None:
            return RECHECK_STALLED_SECONDS
        period = RECHECK_STALLED_SECONDS if desk.closed or desk.denial else RECHECK_SECONDS
        return max(used.checked_at + period - self.steady(), 0.0)

    async def equip(self, desk: Desk, spec: E2BAccountSpec | None, fault: Hold | None) -> None:
        """Bring a desk up to date with its account; whatever is wrong becomes the reason why it is closed."""
        wrong = fault or self._wrong(desk, spec)
        desk.limits.spec = spec or desk.limits.spec
        if wrong is not None or spec is None:
            self._used.pop(desk.name, None)
            desk.disarm(wrong)
            return
        used = self._used.get(desk.name)
        same = used is not None and (used.api_url, used.secret) == (spec.api_url, spec.credentials_secret)
        if same and self.rests(desk) > 0:
            return
        try:
            credentials = await self.reader.read(desk.name.namespace, spec.credentials_secret)
        except CredentialsError as error:
            self._used[desk.name] = _Used(spec.api_url, spec.credentials_secret, "", self.steady())
            desk.disarm(Hold(error.reason, str(error), RECHECK_STALLED_SECONDS))
            return
        except FencedError:
            raise
        except KubeError as error:
            if not same:
                raise
            log.warning("Secret not looked at", extra={"account": desk.name.key, "error": str(error)})
            return
        self._use(desk, spec, credentials, is_same=same and used is not None and used.version == credentials.version)

    def _use(self, desk: Desk, spec: E2BAccountSpec, credentials: Credentials, *, is_same: bool) -> None:
        if not (is_same and desk.is_equipped):
            desk.equip(spec, self.make_client(spec.api_url, credentials.api_key))
            log.info("account equipped", extra={"account": desk.name.key, "secret": spec.credentials_secret})
        self._used[desk.name] = _Used(spec.api_url, spec.credentials_secret, credentials.version, self.steady())

    def _wrong(self, desk: Desk, spec: E2BAccountSpec | None) -> Hold | None:
        if spec is None:
            return Hold(Reason.ACCOUNT_NOT_FOUND, f"there is no E2BAccount {desk.name.key}", RECHECK_STALLED_SECONDS)
        if is_allowed(spec.api_url, self.endpoints):
            return None
        message = f"{spec.api_url} is not among the operator's EXECPOOL_E2B_ENDPOINTS ({', '.join(self.endpoints)})"
        return Hold(Reason.ENDPOINT_NOT_ALLOWED, message, RECHECK_SECONDS)
