"""The small pure pieces of envd: signatures, ranges, pictures of directories, exits, frames."""

import errno

import pytest
from e2b.sandbox.signature import get_signature
from hypothesis import given
from hypothesis import strategies as st

from execpool.executor import agent_wire
from execpool.executor.agent_wire import Code
from execpool.executor.runner.agent.paths import expand, timestamp
from execpool.executor.runner.agent.trouble import Trouble, from_kernel
from execpool.executor.runner.agent.watch import Picture, Seen, differences
from execpool.executor.server.claim import Ownership
from execpool.executor.server.envd import ranges, signatures
from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.errors import Conflict
from execpool.protocol import Expect


@pytest.mark.parametrize("user", [None, "user"])
@pytest.mark.parametrize("seconds", [None, 60])
def test_signatures_are_those_of_the_sdk(user: str | None, seconds: int | None) -> None:
    theirs = get_signature("/a b/ü", "read", user, "token", seconds)
    expiration = None if theirs["expiration"] is None else str(theirs["expiration"])
    ours = signatures.sign("/a b/ü", signatures.READ, user or "", "token", expiration)
    assert ours == theirs["signature"]
    signatures.check(theirs["signature"], ours, expiration, now=0.0)


@pytest.mark.parametrize("expiration", ["10", "", "x", "-5", "1e9", "9" * 20])
def test_a_time_that_is_over_or_none_is_refused(expiration: str) -> None:
    with pytest.raises(EnvdError):
        signatures.check("s", "s", expiration, now=11.0)


@given(st.text(max_size=30))
def test_any_range_header_is_understood_or_ignored(header: str) -> None:
    asked = ranges.span(header)
    assert set(asked) <= {"first", "last"}
    assert asked.get("last", 1 << 62) >= asked.get("first", 0)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_name_fits_into_a_header(name: str) -> None:
    ranges.disposition(name).encode("ascii")
    assert "\n" not in ranges.disposition(name)
    assert "\r" not in ranges.disposition(name)


@pytest.mark.parametrize(
    ("path", "expanded"),
    [
        ("", "/home/user"),
        (".", "/home/user"),
        ("~", "/home/user"),
        ("~/a", "/home/user/a"),
        ("a/../b", "/home/user/b"),
        ("../../etc", "/etc"),
        ("/a/../b", "/a/../b"),
    ],
)
def test_paths_are_read_as_e2b_reads_them(path: str, expanded: str) -> None:
    assert expand(path, "/home/user") == expanded


@pytest.mark.parametrize("path", ["~root/x", "a\0b", None, 5, ["x"]])
def test_other_paths_are_refused(path: object) -> None:
    with pytest.raises(Trouble):
        expand(path, "/home/user")


def test_moments_beyond_the_calendar_are_left_out() -> None:
    assert timestamp(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456789Z"
    assert timestamp(10**30) == ""
    assert timestamp(-(10**30)) == ""


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.ENOENT, Code.NOT_FOUND),
        (errno.EROFS, Code.PERMISSION_DENIED),
        (errno.ENOSPC, Code.NO_SPACE),
        (errno.EFBIG, Code.TOO_LARGE),
        (errno.EIO, Code.INTERNAL),
    ],
)
def test_errors_of_the_kernel_become_codes(number: int, code: Code) -> None:
    assert from_kernel(OSError(number, "why"), "doing").code is code


def test_a_full_disk_has_a_status_of_its_own_and_is_no_rate_limit() -> None:
    full = EnvdError(Code.NO_SPACE, "full")
    assert (full.plain_status, full.connect_code) == (507, Code.INTERNAL)


def test_calls_that_are_no_runs_keep_an_executor_from_idling_and_take_no_slot() -> None:
    ownership = Ownership(slots=1, idle_seconds=10, max_age_seconds=100, now=0.0)
    ownership.claim("alice", token="t", now=0.0)
    assert ownership.ends_at() == 10.0
    ownership.visit(now=5.0)
    assert ownership.ends_at() is None
    with pytest.raises(Conflict):
        ownership.retire(Expect.IDLE, epoch=1)
    assert ownership.begin("run", now=6.0) == 1
    ownership.end("run", now=7.0)
    assert ownership.ends_at() is None
    ownership.leave(now=8.0)
    assert ownership.ends_at() == 18.0
    ownership.retire(Expect.IDLE, epoch=1)


def seen(inode: int, mode: int = 0o100644, size: int = 0, modified: int = 0) -> Seen:
    return Seen((1, inode), mode, size, modified)


CREATE, WRITE, REMOVE, RENAME, CHMOD = (
    f"EVENT_TYPE_{kind}" for kind in ("CREATE", "WRITE", "REMOVE", "RENAME", "CHMOD")
)


@pytest.mark.parametrize(
    ("before", "after", "events"),
    [
        ({}, {"a": seen(1)}, [("a", CREATE)]),
        ({}, {"a": seen(1, size=3)}, [("a", CREATE), ("a", WRITE)]),
        ({"a": seen(1)}, {}, [("a", REMOVE)]),
        ({"a": seen(1)}, {"a": seen(1, modified=2)}, [("a", WRITE)]),
        ({"a": seen(1)}, {"a": seen(1, mode=0o100600)}, [("a", CHMOD)]),
        ({"a": seen(1)}, {"a": seen(2)}, [("a", CREATE)]),
        ({"a": seen(1, size=3)}, {"b": seen(1, size=3)}, [("a", RENAME), ("b", CREATE)]),
        ({"d": seen(1, 0o40755, 0, 1)}, {"d": seen(1, 0o40755, 5, 2)}, []),
        (
            {"d": seen(1, 0o40755), "d/x": seen(2), "d/y/z": seen(3)},
            {"e": seen(1, 0o40755), "e/x": seen(2), "e/y/z": seen(3)},
            [("d", RENAME), ("e", CREATE)],
        ),
    ],
)
def test_differences_between_two_pictures(before: Picture, after: Picture, events: list[tuple[str, str]]) -> None:
    assert differences(before, after) == events


pictures = st.dictionaries(
    st.sampled_from(["a", "b", "a/b", "a/b/c", "d"]), st.builds(seen, st.integers(1, 5)), max_size=5
)


@given(pictures, pictures)
def test_differences_are_about_what_differs_and_the_same_has_none(before: Picture, after: Picture) -> None:
    assert differences(before, before) == []
    for name, _ in differences(before, after):
        assert before.get(name) != after.get(name)


def test_frames_are_bounded_json_objects() -> None:
    assert agent_wire.decode(agent_wire.encode({"call": 1})) == {"call": 1}
    with pytest.raises(agent_wire.FrameError):
        agent_wire.encode({"call": "x" * agent_wire.MAX_FRAME_BYTES})
    for packet in (b"", b"[]", b"\xff", b"1", b"[" * 5000, b" " * (agent_wire.MAX_FRAME_BYTES + 1)):
        with pytest.raises(agent_wire.FrameError):
            agent_wire.decode(packet)
