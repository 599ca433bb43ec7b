"""Hostile programs on a local executor, contained: the light ones, with short limits. All of them: tests/e2e/test_hostile_pod.py."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.hostile.programs import ABSENT, AS_COMMANDS, FOR_MONTY, LISTED, PROGRAMS, commands
from tests.hostile.residue import CHANNELS

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = (("stateless", 1), ("context", 3), ("monty", 1))
"""Each with how many of the programs: every one, or every third."""
POLITE_SECONDS = 2.0


@pytest.mark.parametrize(("variant", "every"), VARIANTS)
def test_hostile_programs_gain_nothing_and_leave_nothing(variant, every):
    report = campaign(variant, f"EVERY={every}")
    assert report["problems"] == []
    assert report["tried"] > 100 / every
    assert len(report["polite"]) > 5
    assert max(report["polite"]) < POLITE_SECONDS


def test_a_run_finds_nothing_of_the_one_before_it_but_what_is_documented():
    seen = campaign("residue")
    assert seen["itself"] == [channel.name for channel in CHANNELS if not channel.refused]
    assert seen["alone"] == []
    assert seen["beside"] == [channel.name for channel in CHANNELS if channel.beside]


def campaign(*arguments):
    """The report of a contained campaign, in a directory whose name leaves room for that of a socket."""
    inside = [sys.executable, "-m", "tests.hostile.campaign", *arguments]
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        done = subprocess.run(
            [sys.executable, "-m", "tests.hostile.contain", scratch, *inside],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])[arguments[0]]


def test_a_campaign_refuses_to_run_where_it_could_do_harm():
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile.campaign", "monty", "NAME=sys.exit"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode != 0
    assert "NotContainedError" in done.stderr


def test_the_programs_cover_the_list():
    everything = dict.fromkeys((*PROGRAMS, *AS_COMMANDS, *FOR_MONTY))
    assert len({program.name for program in everything}) == len(everything)
    assert {program.name for program in AS_COMMANDS} > commands.ALSO_AS_COMMANDS
    assert len(PROGRAMS) >= 110
    assert len(PROGRAMS) + len(ABSENT) >= LISTED
    for program in PROGRAMS:
        compile(program.code.replace("$SERVER_PID", "1"), program.name, "exec")
