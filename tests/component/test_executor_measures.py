"""Each measure that holds a run holds, and this test fails without it: the same probes, with one measure left out.

The probes of `tests.hostile.measures` run contained, all of them under every condition; the cases here are told by name.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.hostile.measures import CONDITIONS, PROBES

from execpool.executor.runner import landlock

pytestmark = pytest.mark.skipif(
    landlock.abi() < landlock.SCOPES_SINCE, reason="this kernel has no signal domains: see the fallback"
)
ROOT = Path(__file__).resolve().parents[2]
HELD = {
    "networks": "ENETUNREACH ENETUNREACH EAFNOSUPPORT",
    "calls": "EPERM EPERM ENOSYS ENOSYS",
    "signals": "EPERM EPERM EPERM EPERM",
    "files": "EACCES EACCES EACCES EACCES",
    "memory": "MemoryError",
    "descriptors": "EMFILE",
    "looks": "EACCES EACCES EACCES EACCES",
    "daemons": "0 left",
    "output": "OutputLimit",
}
LOST = {
    "without seccomp": {"networks": "ok ok ok", "calls": "ok ok ok ok"},
    "without Landlock": {"signals": "ok ok ok ok", "files": "ok ok ok ok"},
    "without limits": {"memory": "ok", "descriptors": "ok"},
    "without Landlock, and dumpable": {"looks": "ok ok ok ok"},
    "without the end of the group": {"daemons": "1 left"},
    "without the cap on output": {"output": "goes on"},
}
"""What each measure alone holds. That processes cannot be looked into is Landlock's as well, so both are left out."""


@pytest.fixture(scope="module")
def observed():
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "tests.hostile.contain", scratch, sys.executable, "-m", "tests.hostile.measures"],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_is_held_with_all_measures(observed, probe):
    assert observed["all measures"][probe] == HELD[probe]


@pytest.mark.parametrize("condition", LOST)
def test_without_a_measure_its_probes_get_through(observed, condition):
    assert LOST[condition].items() <= observed[condition].items()


@pytest.mark.parametrize("condition", LOST)
def test_a_measure_is_not_what_holds_the_other_probes(observed, condition):
    lost = {**LOST["without Landlock"], **LOST[condition]} if "Landlock" in condition else LOST[condition]
    others = {probe: said for probe, said in observed[condition].items() if probe not in lost}
    assert others == {probe: HELD[probe] for probe in others}


def test_every_condition_has_its_case():
    assert set(LOST) | {"all measures"} == set(CONDITIONS)
    assert set(HELD) == set(PROBES)
