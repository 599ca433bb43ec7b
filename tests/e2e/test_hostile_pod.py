"""The hostile programs in the real restricted pod: nothing escapes, nothing is reached, nothing is left."""

from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.hostile import figures, residue
from tests.hostile.client import Holder
from tests.hostile.commands import Commands
from tests.hostile.pod import SLOTS, Pod, PodGround, targets
from tests.hostile.programs import AS_COMMANDS, FOR_MONTY, PROGRAMS
from tests.hostile.trial import Campaign, Report

from execpool import protocol
from execpool.cli.doors import LocalClusterDoor

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = {"stateless": "Python", "context": "Python", "monty": "Monty", "command": "Python"}
"""Each with its runtime; the last one runs programs as commands of envd."""
PLATFORM_FILES = (
    "/proc/1/environ", "/proc/1/mem", "/proc/1/maps", "/proc/1/root/etc/passwd", "/run/execpool", "/run/execpool/runner.sock",
    "/var/lib/execpool/claimed", "../../var/lib/execpool/claimed", "/work", "/dev/termination-log", "/dev/kmsg",
    "/var/run/secrets/kubernetes.io/serviceaccount/token", "/sys/kernel/debug", "/proc/kcore",
)  # fmt: skip
"""What the files service must not hand out."""
MOST_PROCESSES = 500
"""RLIMIT_NPROC that a run must find before a fork bomb is let loose on this node, which gives a pod 512."""


@pytest.fixture(scope="session")
def executor_image(cluster) -> str:
    return LocalClusterDoor(ROOT).images()["executor"]


@pytest.fixture
def pods(cluster, namespace: str, executor_image: str) -> Iterator:
    """Make pods; they are gone afterwards."""
    made: list[Pod] = []

    def make(runtime: str) -> Pod:
        made.append(Pod(cluster, namespace, executor_image, runtime))
        return made[-1]

    yield make
    for pod in made:
        pod.delete()


async def claimed(http: aiohttp.ClientSession, pod: Pod) -> Holder:
    """Claim a pod as a gateway does."""
    holder = Holder(http, pod.url(protocol.DATA_PORT), pod.url(protocol.CONTROL_PORT), pod.secret)
    await holder.claim()
    return holder


@pytest.mark.timeout(900)
@pytest.mark.parametrize("variant", VARIANTS)
async def test_hostile_programs_in_the_pod_gain_nothing_and_leave_nothing(cluster, pods, variant):
    pod, neighbour = pods(VARIANTS[variant]), pods("Python")
    for each in (pod, neighbour):
        each.wait_ready()
    async with aiohttp.ClientSession() as http:
        holder = await claimed(http, pod)
        if variant != "monty":
            await must_be_bounded(holder)
            pod.wait_for_imports(2)
        ground = PodGround(pod, holder, targets(cluster, pod, neighbour))
        commands = Commands(http, pod.url(protocol.ENVD_PORT), holder.token) if variant == "command" else None
        programs = {"command": AS_COMMANDS, "monty": (*PROGRAMS, *FOR_MONTY)}.get(variant, PROGRAMS)
        report = await Campaign(ground, variant, commands).run(programs)
        if commands is not None:
            report.problems += await files_of_the_platform(commands, ground.canaries)
        report.problems += await beyond_the_programs(http, pod, neighbour)
    show(variant, report)
    for each in pod.logs("runner").splitlines() if report.problems else ():
        print(each)
    assert report.problems == []
    assert report.tried == len(programs)


async def files_of_the_platform(commands: Commands, canaries: tuple[str, ...]) -> list[str]:
    """Ask the files service for what is not the claim's."""
    problems = []
    for path in PLATFORM_FILES:
        status, body = await commands.read(path)
        problems += [f"the files service handed out {path}"] if status == 200 and body else []
        problems += [f"a secret is in {path}" for canary in canaries if canary.encode() in body]
    return problems


async def must_be_bounded(holder: Holder) -> None:
    """A fork bomb in a pod without a limit on processes would be the node's."""
    code = "import resource\nresource.getrlimit(resource.RLIMIT_NPROC)[1]"
    shown = (await holder.run(code, 5)).shown()
    assert shown.isdigit(), f"no limit on processes: {shown}"
    assert int(shown) <= MOST_PROCESSES


async def beyond_the_programs(http: aiohttp.ClientSession, pod: Pod, neighbour: Pod) -> list[str]:
    """Look at what programs could have reached: the server, its log, the neighbour."""
    problems = [f"{name} was started again {times} times" for name, times in pod.restarts().items() if times]
    for container in ("server", "runner"):
        log = pod.logs(container)
        problems += [f"a secret is in the log of {container}" for word in (pod.secret, pod.canary) if word in log]
    async with http.get(f"{neighbour.url(protocol.CONTROL_PORT)}/state") as answer:
        state = protocol.State.decode(await answer.read())
    if state.phase != protocol.ExecutorPhase.WARM:
        problems.append(f"the neighbour is {state.phase}")
    return problems


def show(variant: str, report: Report) -> None:
    """Print the figures, which pytest shows with -rP, or when the test fails; keep them if told to."""
    found = figures.of(report)
    figures.record(variant, found)
    print(
        f"{variant}: {found.tried} programs, ends {found.ends}, latest answer {found.latest:.2f} s after its limit,"
        f" longest wait for a start {report.waited:.2f} s"
    )
    print(
        f"{found.polite} polite runs beside: p50 {found.p50:.3f} s, p99 {found.p99:.3f} s, max {found.longest:.3f} s;"
        f" {SLOTS} slots"
    )
    print(f"before: {found.before}\nafter:  {found.after}")
    for problem in report.problems:
        print(problem)


@pytest.mark.timeout(300)
async def test_a_run_in_the_pod_finds_nothing_of_the_one_before_it_but_what_is_documented(pods):
    pod = pods("Python")
    pod.wait_ready()
    places = {"SCRATCH": "/tmp", "SHM": "/dev/shm"}
    async with aiohttp.ClientSession() as http:
        holder = await claimed(http, pod)
        assert await residue.visible(holder, places, beside=False) == []
        expected = [channel.name for channel in residue.CHANNELS if channel.beside]
        assert await residue.visible(holder, places, beside=True) == expected
