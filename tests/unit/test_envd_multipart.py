"""Forms: what was written is read, however it is cut; nothing is kept but a boundary's length."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execpool.executor.server.envd.errors import EnvdError
from execpool.executor.server.envd.multipart import MAX_PARTS, Multipart, Part, boundary_of

names = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_characters='"\\\x7f\x85'), min_size=1, max_size=30
)
# Pieces of boundaries and line ends, so that contents come close to what ends them.
contents = st.lists(
    st.sampled_from([b"\r\n", b"--", b"-", b"\r", b"\n", b"BOUND", b"x", b"\r\n--BOUN"]), max_size=12
).map(b"".join)


def form(files: list[tuple[str, bytes]], boundary: bytes = b"BOUNDARY") -> bytes:
    parts = [
        b'--%s\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: text/plain\r\n\r\n%s\r\n'
        % (boundary, name.encode(), content)
        for name, content in files
    ]
    return b"".join(parts) + b"--%s--\r\n" % boundary


def read(reader: Multipart, pieces: list[bytes]) -> list[tuple[Part, bytes]]:
    found: list[tuple[Part, bytes]] = []
    for piece in pieces:
        for item in reader.feed(piece):
            if isinstance(item, Part):
                found.append((item, b""))
            else:
                found[-1] = (found[-1][0], found[-1][1] + item)
    return found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


@given(st.lists(st.tuples(names, contents), max_size=4), st.lists(st.integers(0, 10_000), max_size=12))
def test_files_survive_however_the_body_is_cut(files: list[tuple[str, bytes]], places: list[int]) -> None:
    reader = Multipart(b"BOUNDARY")
    found = read(reader, cut(form(files), places))
    reader.finish()
    assert [(part.filename, content) for part, content in found] == files


@given(st.binary(max_size=300))
def test_any_bytes_are_a_form_or_an_error_and_never_more_than_came(body: bytes) -> None:
    reader = Multipart(b"b")
    found: list[tuple[Part, bytes]] = []
    with suppress(EnvdError):
        found = read(reader, [b"--b\r\n", body])
        reader.finish()
    assert sum(len(content) for _, content in found) <= len(body)


def test_a_body_goes_out_as_it_comes() -> None:
    reader = Multipart(b"b")
    list(reader.feed(b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'))
    for _ in range(10):
        out = sum(len(piece) for piece in reader.feed(b"x" * 10_000) if isinstance(piece, bytes))
        assert out >= 9_990


def test_heads_and_parts_are_bounded() -> None:
    with pytest.raises(EnvdError, match="too long"):
        list(Multipart(b"b").feed(b"--b\r\nX: " + b"y" * 20_000))
    with pytest.raises(EnvdError, match="too many parts"):
        read(Multipart(b"b"), [b"--b\r\nA: b\r\n\r\n\r\n" * (MAX_PARTS + 1)])


def test_text_before_the_first_boundary_and_after_the_last_is_dropped() -> None:
    reader = Multipart(b"b")
    assert read(reader, [b"preamble " * 1000 + b"\r\n", form([("f", b"x")], b"b"), b"epilogue"]) == [
        (Part("file", "f"), b"x")
    ]
    reader.finish()


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('multipart/form-data; charset=x; boundary="a b;c"', b"a b;c"),
        ("multipart/form-data; Boundary=abc", b"abc"),
    ],
)
def test_boundaries(header: str, boundary: bytes) -> None:
    assert boundary_of(header) == boundary


@pytest.mark.parametrize(
    "header", ["multipart/form-data", "multipart/form-data; boundary=", "x; boundary=" + "y" * 201]
)
def test_other_boundaries_are_refused(header: str) -> None:
    with pytest.raises(EnvdError):
        boundary_of(header)


def test_escaped_names() -> None:
    head = rb"--b" + b"\r\n" + rb'content-disposition: form-data; filename="a\"b\\c"; name=file' + b"\r\n\r\n"
    assert read(Multipart(b"b"), [head])[0][0] == Part("file", 'a"b\\c')
