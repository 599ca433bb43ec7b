"""Landlock's layers in the kernel: a domain that ends all it holds and reaches nobody else, and files within grants."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from execpool.executor.runner import landlock, processes, sandbox

PROGRAM = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: time.sleep(60)
        os._exit(0)
print("up", flush=True)
time.sleep(60)
"""


def in_child(work):
    """Run `work` in a fork and return what it says."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001 - told to the test
            said = repr(error)
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    return said


needs_domains = pytest.mark.skipif(landlock.abi() < landlock.SCOPES_SINCE, reason="this kernel has no signal domains")


@needs_domains
def test_a_domain_ends_all_that_it_holds_and_reaches_nobody_else():
    outsider = os.getpid()

    def work():
        sandbox.adopt_orphans()
        sandbox.no_new_privileges()
        landlock.enter_domain(landlock.abi())
        with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as program:
            program.stdout.readline()
            usage = processes.Usage()
            clean_ = processes.end_domain(outsider, usage)
        return clean_, usage.cpu_seconds > 0, processes.children_of(os.getpid())

    bystander = subprocess.Popen(["sleep", "60"])
    assert in_child(work) == "(True, True, [])"
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_without_a_domain_nothing_is_signalled():
    outsider = os.getpid()

    def work():
        child = subprocess.Popen(["sleep", "60"])
        try:
            processes.end_domain(outsider, processes.Usage())
        except processes.NotInDomainError:
            return child.poll()
        finally:
            child.kill()

    assert in_child(work) == "None"


@needs_domains
def test_a_program_reaches_the_files_that_it_was_granted_and_no_others(tmp_path):
    mine, other = tmp_path / "mine", tmp_path / "other"
    for directory in (mine, other):
        directory.mkdir()
        (directory / "file").write_text("x")

    def attempt(action):
        try:
            action()
        except OSError as error:
            return errno.errorcode[error.errno]
        return "ok"

    def work():
        sandbox.no_new_privileges()
        grants = landlock.system_grants([], tmp_path)
        landlock.enter_files(landlock.abi(), (*grants, (str(mine), landlock.WRITE)))
        (mine / "sub").mkdir()
        attempts = [
            lambda: (mine / "new").write_text("x"),
            lambda: (mine / "new").rename(mine / "sub" / "new"),
            lambda: Path("/dev/null").write_text("x"),
            lambda: list(Path("/usr").iterdir()),
            (other / "file").read_text,
            lambda: (other / "new").write_text("x"),
            lambda: list(tmp_path.iterdir()),
            Path("/usr/execpool-test").touch,
            lambda: Path("/proc/self/comm").write_text("x"),
            lambda: os.mknod(mine / "null", 0o20600, os.makedev(1, 3)),
        ]
        return [attempt(each) for each in attempts]

    assert in_child(work) == str(["ok"] * 4 + ["EACCES"] * 6)


def test_grants_never_hold_the_directories_of_runs(tmp_path):
    paths = [
        path for path, _ in landlock.system_grants([str(tmp_path), str(tmp_path.parent), "/usr"], tmp_path / "work")
    ]
    assert "/usr" in paths
    assert not [path for path in paths if (tmp_path / "work").is_relative_to(path)]
    assert landlock.scratch_grant(tmp_path, tmp_path / "work")[1] & landlock.READ_DIR == 0
    assert landlock.scratch_grant(tmp_path / "tmp", tmp_path / "work")[1] & landlock.READ_DIR
