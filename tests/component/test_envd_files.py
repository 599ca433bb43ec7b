"""Uploads and downloads, by E2B's SDK and by hand."""

import gzip
import hashlib
import io
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from e2b import FileNotFoundException, InvalidArgumentException, SandboxException
from e2b.exceptions import AuthenticationException
from tests.component.envd_world import TOKEN, World, envd

from execpool.executor.server.envd import signatures
from execpool.protocol import HEADER_EPOCH, HEADER_TOKEN


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with envd() as running:
        yield running


def test_what_was_written_is_read(world: World) -> None:
    files = world.sandbox().files
    written = files.write("text.txt", "grüße\n")
    assert (written.path, written.name) == (f"{world.home}/text.txt", "text.txt")
    assert files.read("text.txt") == "grüße\n"
    assert files.read("~/text.txt") == "grüße\n"
    assert files.read(f"{world.home}/text.txt", format="bytes") == bytearray("grüße\n".encode())


def test_binary_content_of_megabytes_survives_in_both_upload_forms(world: World) -> None:
    content = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(100_000))
    files = world.sandbox().files
    for octet in (False, True):
        files.write("large.bin", content, use_octet_stream=octet)
        assert bytes(files.read("large.bin", format="bytes")) == content


def test_a_stream_is_uploaded_and_downloaded_in_pieces(world: World) -> None:
    files = world.sandbox().files
    files.write("streamed", io.BytesIO(b"x" * 300_000))
    with files.read("streamed", format="stream") as stream:
        assert sum(len(chunk) for chunk in stream) == 300_000
    files.write("chunks", (f"{number}\n".encode() for number in range(1000)))
    assert files.read("chunks").splitlines()[-1] == "999"


def test_gzip_uploads_are_unpacked(world: World) -> None:
    files = world.sandbox().files
    files.write("packed", "z" * 1_000_000, gzip=True)
    assert files.read("packed", gzip=True) == "z" * 1_000_000


def test_several_files_in_one_upload(world: World) -> None:
    files = world.sandbox().files
    written = files.write_files([{"path": f"many/{number}/f", "data": str(number)} for number in range(20)])
    assert [info.path for info in written] == [f"{world.home}/many/{number}/f" for number in range(20)]
    assert files.read("many/13/f") == "13"


def test_an_empty_file(world: World) -> None:
    files = world.sandbox().files
    files.write("empty", "")
    assert files.read("empty") == ""
    files.write("empty", b"", use_octet_stream=True)
    assert files.read("empty", format="bytes") == bytearray()


def test_overwriting_keeps_the_mode(world: World) -> None:
    files = world.sandbox().files
    files.write("script", "#!/bin/sh\n")
    (world.home / "script").chmod(0o755)
    files.write("script", "#!/bin/sh\necho short\n")
    files.write("script", "short")
    assert files.read("script") == "short"
    assert files.get_info("script").mode == 0o755


def test_metadata_is_stored_and_told(world: World) -> None:
    files = world.sandbox().files
    written = files.write("tagged", "x", metadata={"Origin": "test", "run": "7"})
    assert written.metadata == {"origin": "test", "run": "7"}
    assert files.get_info("tagged").metadata == {"origin": "test", "run": "7"}


def test_errors_are_the_sdks_own(world: World) -> None:
    files = world.sandbox().files
    with pytest.raises(FileNotFoundException, match="does not exist"):
        files.read("missing")
    files.make_dir("directory")
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        files.read("directory")
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        files.write("directory", "x")
    files.write("file", "x")
    with pytest.raises(InvalidArgumentException, match="on the way is a file"):
        files.write("file/below", "x")
    with pytest.raises(AuthenticationException, match="unknown user root"):
        files.read("file", user="root")
    assert files.read("file", user="user") == "x"


def test_a_signed_url_reads_and_writes_without_a_token(world: World) -> None:
    sandbox = world.sandbox()
    request = urllib.request.Request(sandbox.upload_url("signed.txt", use_signature_expiration=60), method="POST")
    request.data = b'--b\r\nContent-Disposition: form-data; name="file"; filename="ignored"\r\n\r\nsigned\r\n--b--\r\n'
    request.add_header("Content-Type", "multipart/form-data; boundary=b")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
    with urllib.request.urlopen(sandbox.download_url("signed.txt")) as answer:
        assert answer.read() == b"signed"
    with urllib.request.urlopen(sandbox.download_url("signed.txt", user="user")) as answer:
        assert answer.read() == b"signed"


@pytest.mark.parametrize("change", ["path", "operation", "token", "expired", "missing"])
def test_a_signature_is_for_one_path_one_direction_and_a_time(world: World, change: str) -> None:
    world.sandbox().files.write("mine", "x")
    soon = str(int(time.time()) + (-1 if change == "expired" else 60))
    signature = signatures.sign(
        "other" if change == "path" else "mine",
        "write" if change == "operation" else "read",
        "",
        "guessed" if change == "token" else TOKEN,
        soon,
    )
    query = f"path=mine&signature_expiration={soon}" + ("" if change == "missing" else f"&signature={signature}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{world.url}/files?{query}")
    assert caught.value.code == 401
    assert b'"code":401' in caught.value.read()
    caught.value.close()


@pytest.mark.parametrize(
    ("asked", "status", "content", "told"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-500", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-0,3-4", 200, b"0123456789", None),
        ("bytes=5-2", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
    ],
)
def test_ranges(world: World, asked: str, status: int, content: bytes, told: str | None) -> None:
    world.sandbox().files.write("ten", "0123456789")
    found, body, headers = world.request("GET", "/files", headers={"Range": asked}, path="ten")
    assert (found, body, headers.get("content-range")) == (status, content, told)


def test_a_range_beyond_the_end_is_416(world: World) -> None:
    world.sandbox().files.write("ten", "0123456789")
    status, body, headers = world.request("GET", "/files", headers={"Range": "bytes=10-"}, path="ten")
    assert (status, headers["content-range"]) == (416, "bytes */10")
    assert b'"code":416' in body


def test_a_downloads_headers(world: World) -> None:
    world.sandbox().files.write('we"ird ü.html', "<b>")
    _, _, headers = world.request("GET", "/files", path='we"ird ü.html')
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-disposition"].startswith('inline; filename="we_ird _.html"; filename*=UTF-8')
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["last-modified"].endswith("GMT")


@pytest.mark.parametrize(
    ("headers", "body", "message"),
    [
        ({"Content-Type": "text/plain"}, b"x", b"unsupported content type"),
        ({"Content-Type": "multipart/form-data"}, b"x", b"no multipart boundary"),
        ({"Content-Type": "multipart/form-data; boundary=b"}, b"no form", b"unexpected end"),
        ({"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, b"no gzip", b"invalid gzip"),
        (
            {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"},
            gzip.compress(b"hi") + bytes(5_000_000),
            b"data after the end",
        ),
        ({"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"}, gzip.compress(b"x")[:-4], b"EOF"),
        ({"Content-Type": "application/octet-stream", "Content-Encoding": "br"}, b"x", b"unsupported Content-Encoding"),
    ],
)
def test_uploads_of_another_form_are_refused(
    world: World, headers: dict[str, str], body: bytes, message: bytes
) -> None:
    status, answer, _ = world.request("POST", "/files", body, headers, path="refused")
    assert status == 400
    assert message in answer


def test_two_files_for_one_path_are_refused(world: World) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    status, answer, _ = world.request("POST", "/files", part * 2 + b"--b--", kind, path="one")
    assert status == 400
    assert b"multiple files to the same path" in answer
    status, answer, _ = world.request("POST", "/files", part * 2 + b"--b--", kind)
    assert status == 400


def test_a_slash_too_many_before_the_path_is_forgiven(world: World) -> None:
    world.sandbox().files.write("slash", "x")
    assert world.request("GET", "//files", path="slash")[:2] == (200, b"x")


def test_envs_health_metrics_and_init(world: World) -> None:
    ours = {"X-Access-Token": "", HEADER_TOKEN: TOKEN, HEADER_EPOCH: "1"}
    assert world.request("POST", "/init", b'{"envVars": {"FROM_INIT": "1"}}', ours)[0] == 204
    assert world.request("GET", "/envs")[1] == b'{"FROM_INIT":"1"}'
    assert world.sandbox().commands.run("echo $FROM_INIT").stdout == "1\n"
    assert world.request("POST", "/init", b"{}", ours)[0] == 204
    status, body, _ = world.request("GET", "/metrics")
    assert status == 200
    assert b'"cpu_count":' in body
    assert world.request("GET", "/health", headers={"X-Access-Token": ""})[0] == 204
    assert world.request("GET", "/freeze")[0] == 404


def test_a_file_longer_than_allowed_is_refused() -> None:
    with envd(prelude="import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))") as world:
        with pytest.raises(SandboxException, match="413"):
            world.sandbox().files.write("long", "x" * 2000)
        world.sandbox().files.write("short", "x" * 900)
