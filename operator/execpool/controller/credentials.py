"""An account's key, from the Secret that the account names: read by name, never listed, never watched.

The operator may read Secrets only where somebody bound the ClusterRole `execpool-e2b-credentials`; elsewhere the account
says which RoleBinding to make.
"""

import base64
import binascii
from dataclasses import dataclass, field

from execpool.api.e2b import SECRET_KEY, SECRET_TYPE
from execpool.api.names import Reason
from execpool.kube.client import Kube, Object
from execpool.kube.errors import ForbiddenError, NotFoundError
from execpool.kube.kinds import SECRETS

ROLE = "execpool-e2b-credentials"


class CredentialsError(Exception):
    """There is no key that can be used; `reason` and the text go into the account's status."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Credentials:
    """A key, and the version of its Secret. `repr` never shows the key."""

    api_key: str = field(repr=False)
    version: str = ""


@dataclass(frozen=True)
class CredentialsReader:
    """Reads the Secrets of accounts. `identity` is the operator's own service account, as `namespace:name`."""

    kube: Kube
    identity: str

    async def read(self, namespace: str, name: str) -> Credentials:
        """Return an account's key.

        Raises:
            CredentialsError: when there is none.
            KubeError: when that cannot be told.
        """
        try:
            secret = await self.kube.get(SECRETS, namespace, name)
        except NotFoundError:
            message = f"Secret {name} does not exist in namespace {namespace}"
            raise CredentialsError(Reason.CREDENTIAL_INVALID, message) from None
        except ForbiddenError as error:
            message = (
                f"the operator may not read Secret {name} in namespace {namespace}; to allow it: kubectl create rolebinding"
                f" {ROLE} --clusterrole={ROLE} --serviceaccount={self.identity} --namespace={namespace}"
            )
            raise CredentialsError(Reason.FORBIDDEN, message) from error
        return Credentials(_key_in(secret, name), secret["metadata"]["resourceVersion"])


def _key_in(secret: Object, name: str) -> str:
    if secret.get("type") != SECRET_TYPE:
        # Whoever may write accounts must not make us send any other Secret of the namespace to anybody.
        message = f"Secret {name} is of type {secret.get('type', 'Opaque')}; it must be of type {SECRET_TYPE}"
        raise CredentialsError(Reason.CREDENTIAL_INVALID, message)
    try:
        key = base64.b64decode((secret.get("data") or {}).get(SECRET_KEY, ""), validate=True).decode("ascii").strip()
    except (binascii.Error, ValueError):
        key = ""
    if not key or not key.isprintable() or " " in key:
        message = f"Secret {name} has no entry {SECRET_KEY} with a key of printable ASCII characters"
        raise CredentialsError(Reason.CREDENTIAL_INVALID, message)
    return key
