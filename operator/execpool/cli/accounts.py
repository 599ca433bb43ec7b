"""The account at which `execpool up` makes sandboxes: the emulator in the cluster, or the user's own at E2B.

E2B_API_KEY decides. The key goes from the environment to a Secret over kubectl's standard input: it is in no argument, no
file and no message.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from execpool.api.e2b import SECRET_KEY, SECRET_TYPE
from execpool.cli.doors import GATEWAY, Door

KEY_VARIABLE = "E2B_API_KEY"
NAMESPACE = GATEWAY[0]
"""Of the Secret and the E2BAccount: where the operator may read Secrets."""
EMULATOR = "execpool-emulator"
"""Its Deployment, and the Secret with the key that it accepts."""
LEDGER = "/var/lib/execpool/ledger.jsonl"
"""Of the emulator, in its pod."""


@dataclass(frozen=True)
class Account:
    """Where sandboxes come from.

    Attributes:
        manifests: the kustomization that installs what it needs, execpool included.
        sample: the E2BAccount and the pool on it.
        secret: name of the Secret with the key.
        api_key: the user's own key; empty for the emulator, whose key is drawn.
    """

    manifests: str
    sample: str
    secret: str
    api_key: str = field(default="", repr=False)

    @property
    def is_emulated(self) -> bool:
        """True for the emulator."""
        return not self.api_key

    def describe(self) -> str:
        """Say in a sentence what will be used, before it is."""
        if self.is_emulated:
            return (
                "account: the emulator of E2B in this cluster, with the published limits of plan Hobby (1 creation a second,"
                f" 20 sandboxes); for your own account at E2B set {KEY_VARIABLE}"
            )
        return (
            f"account: yours at E2B, since {KEY_VARIABLE} is set; the key goes into Secret {NAMESPACE}/{self.secret} and is"
            " shown nowhere; three sandboxes stay warm until `make down`, for at most 5 dollars a day"
            f" ({self.sample}: dailySpendMicroUSD)"
        )

    def store_key(self, door: Door) -> None:
        """Put the key where operator, and emulator, find it; a drawn one is kept once it is there.

        Applied by the server: kubectl's own way would leave a copy in an annotation.
        """
        named = ("--namespace", NAMESPACE, "get", "secret", self.secret, "--ignore-not-found", "--output", "name")
        if self.is_emulated and door.kubectl(*named):
            return
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": SECRET_TYPE,
            "metadata": {"name": self.secret, "namespace": NAMESPACE},
            "stringData": {SECRET_KEY: self.api_key or f"e2b_{secrets.token_hex(20)}"},
        }
        arguments = ("apply", "--server-side", "--force-conflicts", "--filename", "-")
        door.kubectl(*arguments, stdin=json.dumps(manifest))


def emulated() -> Account:
    """Return the emulator's account."""
    return Account("manifests/overlays/emulator", "manifests/samples/emulator.yaml", EMULATOR)


def choose_account(environment: Mapping[str, str]) -> Account:
    """Return the user's account when they have named its key, else the emulator's."""
    api_key = environment.get(KEY_VARIABLE, "").strip()
    if not api_key:
        return emulated()
    return Account("manifests/base", "manifests/samples/e2b.yaml", "e2b", api_key)
