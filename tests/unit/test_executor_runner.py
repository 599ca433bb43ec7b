"""The runner's parts, each on its own: the filter, Landlock's layers, the limits, the ends of processes, the cleaning."""

import errno
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.executor.runner import clean, limits, processes, sandbox, seccomp
from execpool.executor.runner.limits import MIB


def decide(program: bytes, number: int, arguments: tuple[int, ...] = (), audit: int = 0) -> int:
    """Interpret a BPF program over one system call, as the kernel does."""
    data = struct.pack("IIQ6Q", number, audit, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    position, accumulator = 0, 0
    while True:
        code, yes, no, k = struct.unpack_from("HBBI", program, position * 8)
        position += 1
        match code:
            case 0x20:
                (accumulator,) = struct.unpack_from("I", data, k)
            case 0x15:
                position += yes if accumulator == k else no
            case 0x35:
                position += yes if accumulator >= k else no
            case 0x45:
                position += yes if accumulator & k else no
            case 0x06:
                return k
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


ALLOW, KILL, REFUSED = 0x7FFF0000, 0x80000000, 0x00050000


@pytest.fixture(params=seccomp.MACHINES)
def machine(request):
    return seccomp.MACHINES[request.param]


@pytest.mark.parametrize(
    ("internet", "family", "answer"),
    [
        (False, socket.AF_UNIX, ALLOW),
        (False, socket.AF_INET, REFUSED | errno.ENETUNREACH),
        (False, socket.AF_INET6, REFUSED | errno.ENETUNREACH),
        (False, socket.AF_NETLINK, REFUSED | errno.EAFNOSUPPORT),
        (True, socket.AF_INET, ALLOW),
        (True, socket.AF_INET6, ALLOW),
        (True, socket.AF_UNIX, ALLOW),
        (True, socket.AF_PACKET, REFUSED | errno.EAFNOSUPPORT),
    ],
)
def test_sockets_are_answered_by_family(machine, internet, family, answer):
    program = seccomp.build(machine, internet=internet)
    assert decide(program, machine.calls["socket"], (family,), machine.audit) == answer


def test_another_architecture_is_the_end(machine):
    assert decide(seccomp.build(machine, internet=True), 0, audit=0x40000003) == KILL


def test_the_x32_twins_of_system_calls_do_not_exist():
    machine = seccomp.MACHINES["x86_64"]
    number = machine.calls["socket"] | 0x40000000
    assert decide(seccomp.build(machine, internet=True), number, (2,), machine.audit) == REFUSED | errno.ENOSYS


@pytest.mark.parametrize(
    "name", ["ptrace", "shmget", "mq_open", "setns", "process_vm_writev", "bpf", "mount", "chroot", "open_by_handle_at"]
)
def test_reaching_into_others_is_refused(machine, name):
    program = seccomp.build(machine, internet=True)
    assert decide(program, machine.calls[name], (), machine.audit) == REFUSED | errno.EPERM


@pytest.mark.parametrize("name", ["memfd_create", "memfd_secret", "inotify_init1", "io_uring_setup", "clone3"])
def test_what_programs_can_do_without_does_not_exist(machine, name):
    program = seccomp.build(machine, internet=True)
    assert decide(program, machine.calls[name], (), machine.audit) == REFUSED | errno.ENOSYS


@pytest.mark.parametrize(
    ("name", "arguments", "allowed"),
    [
        ("prlimit64", (0, 7), True),
        ("prlimit64", (1, 7), False),
        ("sched_setaffinity", (0,), True),
        ("sched_setaffinity", (42,), False),
        ("setpriority", (0, 0, 5), True),
        ("setpriority", (0, 42, 5), False),
        ("setpriority", (2, 0, 5), False),
        ("ioprio_set", (1, 0), True),
        ("ioprio_set", (3, 0), False),
        ("clone", (0x11,), True),
        ("clone", (0x3D0F00,), True),
        ("clone", (0x10000011,), False),
        ("clone", (0x00020011,), False),
    ],
)
def test_only_the_caller_itself_may_be_steered(machine, name, arguments, allowed):
    answer = decide(seccomp.build(machine, internet=True), machine.calls[name], arguments, machine.audit)
    assert answer == (ALLOW if allowed else REFUSED | errno.EPERM)


@given(st.integers(0, 600), st.booleans())
def test_every_other_system_call_is_allowed(number, internet):
    for machine in seccomp.MACHINES.values():
        answer = decide(seccomp.build(machine, internet=internet), number, (), machine.audit)
        assert (answer == ALLOW) or number in machine.calls.values()


@pytest.mark.parametrize(
    ("memory", "slots", "allowance"),
    [
        pytest.param(0, 4, None, id="no limit without one"),
        pytest.param(2048, 4, 512, id="four slots get 512 MiB at least"),
        pytest.param(8192, 4, (8192 - 1024 - 64 - 100) / 4, id="a large container is divided"),
        pytest.param(1024, 1, 1024 - 128 - 64 - 100, id="one slot gets what is left"),
        pytest.param(256, 4, 256 - 32 - 64 - 100, id="a small container gives what it has"),
        pytest.param(64, 1, 32, id="a container that is too small still starts"),
    ],
)
def test_the_memory_limit_is_derived(memory, slots, allowance):
    derived = limits.derive(memory * MIB, slots, 100 * MIB, own_namespace=False, cpus=2)
    assert derived.data_bytes == (0 if allowance is None else int((100 + allowance) * MIB))


def test_what_the_runner_holds_itself_is_not_given_away():
    most = limits.derive(1024 * MIB, 1, 100 * MIB, own_namespace=False, cpus=1)
    less = limits.derive(1024 * MIB, 1, 100 * MIB, own_namespace=False, cpus=1, overhead_bytes=200 * MIB)
    assert most.data_bytes - less.data_bytes == 200 * MIB
    assert limits.overhead(4, science=True) > limits.overhead(4, science=False) > limits.overhead(1, science=False)


@pytest.mark.parametrize(("own", "processes_"), [(True, 384), (False, 0)])
def test_processes_are_counted_only_where_the_count_is_ours(own, processes_):
    assert limits.derive(0, 1, 0, own_namespace=own, cpus=1).processes == processes_


@pytest.mark.parametrize(("memory", "most"), [(64, 64), (768, 64), (1024, 84), (2048, 233), (65536, 384)])
def test_a_fork_bomb_meets_the_limit_of_processes_before_that_of_memory(memory, most):
    overhead = limits.overhead(2, science=memory >= 768)
    derived = limits.derive(memory * MIB, 2, 85 * MIB, own_namespace=True, cpus=1, overhead_bytes=overhead)
    assert derived.processes == most
    if memory > 64:
        assert 85 * MIB + overhead + derived.processes * 6 * MIB < memory * MIB


def test_this_process_is_measured():
    assert limits.data_bytes() > MIB
    assert limits.cpu_count() >= 1
    assert limits.out_of_memory_kills() >= 0


DAEMONS = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            if os.fork() == 0: pass
            time.sleep(60)
        os._exit(0)
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("by_files", [True, False])
def test_every_descendant_is_found_and_ended(monkeypatch, by_files):
    if by_files and not processes.HAS_CHILDREN_FILES:
        pytest.skip("this kernel has no /proc/PID/task/TID/children")
    monkeypatch.setattr(processes, "HAS_CHILDREN_FILES", by_files)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        sandbox.adopt_orphans()
        with subprocess.Popen([sys.executable, "-c", DAEMONS], stdout=subprocess.PIPE) as program:
            program.stdout.readline()
            time.sleep(0.1)
            found = len(processes.children_of(os.getpid()))
            clean = processes.end_descendants()
            os.write(writer, f"{found} {clean} {processes.children_of(os.getpid())}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    assert said == "4 True []"


def test_spared_children_live_on():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        spared, other = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
        clean = processes.end_descendants(spare={spared.pid})
        alive = spared.poll() is None
        os.kill(spared.pid, signal.SIGKILL)
        os.write(writer, f"{clean} {alive} {other.pid in processes.children_of(os.getpid())}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == "True True False"
    os.waitpid(pid, 0)


def test_what_a_run_left_is_removed_whatever_its_modes(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    run = tmp_path / "run"
    (run / "closed" / "deep").mkdir(parents=True)
    (run / "closed" / "deep" / "file").write_text("x")
    (run / "link").symlink_to(outside)
    (run / "closed" / "deep").chmod(0)
    (run / "closed").chmod(0)
    run.chmod(0)
    clean.remove(run)
    assert not run.exists()
    assert (outside / "kept").exists()


def test_a_tree_deeper_than_a_path_may_be_long_is_removed(tmp_path):
    top = tmp_path / "run"
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("nested", dir_fd=here)
        below = os.open("nested", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    clean.remove(top)
    assert not top.exists()


def test_a_sweep_leaves_the_directories_of_runs(tmp_path):
    (tmp_path / "run-1").mkdir()
    (tmp_path / "left").write_text("x")
    assert clean.anything_left([tmp_path])
    clean.sweep([tmp_path])
    assert not clean.anything_left([tmp_path])
    assert (tmp_path / "run-1").exists()
    clean.sweep([tmp_path], all_of_it=True)
    assert not (tmp_path / "run-1").exists()
