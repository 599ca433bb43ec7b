"""Which account `up` takes, what it says of it, where the key goes, and what the witness of a workload asks."""

import json

import pytest

from execpool.cli import up
from execpool.cli.accounts import EMULATOR, choose_account, emulated
from execpool.cli.doors import UpError
from execpool.cli.witness import Witness

KEY = "e2b_" + "ab" * 20
RECORD = {
    "kind": "E2BSandbox",
    "metadata": {"name": "agents-e2b-1"},
    "spec": {"attemptAt": "1970-01-01T00:00:10Z"},
    "status": {"sandboxID": "i1", "claim": {"principal": "x"}},
}
METRICS = """# TYPE execpool_e2b_requests_total counter
execpool_e2b_requests_total{call="Create",outcome="Done"} 4.0
execpool_e2b_requests_total{call="Create",outcome="Paced"} %d.0
execpool_e2b_requests_total{call="Create",outcome="Full"} 1.0
execpool_e2b_requests_created{call="Create",outcome="Paced"} 1.7e+09
"""


class RecordingDoor:
    """Answers kubectl by the first words that fit; remembers what it was asked."""

    def __init__(self, **answers: str | Exception) -> None:
        self.answers = answers
        self.asked: list[tuple[str, ...]] = []
        self.stdin: list[str] = []

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        self.asked.append(arguments)
        self.stdin.append(stdin or "")
        for word, answer in self.answers.items():
            if any(word in argument for argument in arguments):
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return ""


def test_without_a_key_the_account_is_the_emulator_and_up_says_so():
    account = choose_account({"E2B_API_KEY": " "})
    assert account == emulated()
    assert account.is_emulated
    assert "emulator" in account.describe()
    assert "1 creation a second" in account.describe()


def test_with_a_key_it_is_the_users_own_and_up_says_what_it_costs_and_not_the_key():
    account = choose_account({"E2B_API_KEY": KEY})
    assert not account.is_emulated
    assert "yours at E2B" in account.describe()
    assert "5 dollars a day" in account.describe()
    assert KEY not in account.describe() + repr(account)


def test_a_key_goes_to_its_secret_over_standard_input_alone():
    door = RecordingDoor()
    choose_account({"E2B_API_KEY": KEY}).store_key(door)
    assert KEY not in str(door.asked)
    manifest = json.loads(door.stdin[-1])
    assert (manifest["type"], manifest["stringData"]) == ("execpool.dev/e2b", {"apiKey": KEY})
    assert "--server-side" in door.asked[-1], "client-side, the key would be in an annotation too"


def test_the_emulators_key_is_drawn_once():
    first, second = RecordingDoor(), RecordingDoor()
    for door in (first, second):
        emulated().store_key(door)
    keys = {json.loads(door.stdin[-1])["stringData"]["apiKey"] for door in (first, second)}
    assert len(keys) == 2
    later = RecordingDoor(secret=f"secret/{EMULATOR}")
    emulated().store_key(later)
    assert len(later.asked) == 1


def test_the_witness_of_the_emulator_reads_its_ledger():
    lines = [
        {"time": 20.0, "event": "Created", "sandbox_id": "i1", "drawn_seconds": 5.0},
        {"time": 21.0, "event": "ExecutionStarted", "sandbox_id": "i1"},
    ]
    ledger = "\n".join(map(json.dumps, lines))
    door = RecordingDoor(e2bsandboxes=json.dumps({"items": [RECORD]}), exec=ledger)
    facts = Witness(door, emulated(), "agents", "agents", since=12.0).facts()
    assert (facts.created, facts.refused, facts.executions) == (1, 0, {"agents-e2b-1": 1})
    assert facts.birth("agents-e2b-1").begun == 15.0


def test_the_witness_of_an_account_at_e2b_counts_by_records_and_by_the_operators_metrics():
    door = RecordingDoor(e2bsandboxes=json.dumps({"items": [RECORD]}), raw=METRICS % 2)
    witness = Witness(door, choose_account({"E2B_API_KEY": KEY}), "agents", "agents", since=9.0)
    door.answers["raw"] = METRICS % 5
    facts = witness.facts()
    assert (facts.created, facts.refused, facts.executions) == (1, 3, None)
    assert facts.birth("agents-e2b-1").begun == 10.0


@pytest.mark.parametrize("gone", ["e2bsandboxes", "exec"])
def test_what_cannot_be_read_for_a_moment_is_as_it_was(gone: str):
    door = RecordingDoor(e2bsandboxes=json.dumps({"items": [RECORD]}), exec="")
    witness = Witness(door, emulated(), "agents", "agents", since=0.0)
    before = witness.facts()
    door.answers[gone] = UpError("connection refused")
    assert witness.facts() == before
    assert before.sandboxes[0].is_claimed


def test_a_pool_that_does_not_come_up_is_told_with_what_its_account_says():
    said = "Stalled=True, CredentialInvalid: the key in Secret e2b is refused\n"
    door = RecordingDoor(wait=UpError("timed out waiting for the condition"), e2baccount=said, jsonpath="Ready=False\n")
    with pytest.raises(
        UpError, match=r"timed out[^$]*E2BAccount main: Stalled=True, CredentialInvalid[^$]*Ready=False"
    ):
        up._await_pool(door)
