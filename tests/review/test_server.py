"""What the server refuses: another host, no token, another origin, paths, bodies too large."""

from __future__ import annotations

import http.client
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cardiometa.errors import UsageError
from cardiometa.review.server import Server
from cardiometa.review.session import Session
from tests.review.conftest import Running, serving

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running(
    segmented: Path, sources: dict, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    out = Path(shutil.copytree(segmented, tmp_path_factory.mktemp("served") / "out"))
    with Session(out, sources, reader="AB") as session, serving(session) as found:
        yield found


def ask(
    running: Running, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """A request as the page makes it, but for what ``headers`` change (``_`` for a dash)."""
    host = f"127.0.0.1:{running.port}"
    given = {"Host": host, **({"Origin": f"http://{host}"} if method != "GET" else {})}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    try:
        connection.request(method, path, body, {k: v for k, v in given.items() if v})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


def test_the_page_loads_nothing_from_elsewhere(running: Running) -> None:
    status, body, headers = ask(running, "GET", running.path)
    assert status == 200
    assert b'<script type="module" src="page/main.js">' in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["Cache-Control"] == "no-store"
    assert "server" not in headers
    for text in (b"http://", b"https://", b" on", b"style="):
        assert text not in body.replace(b"cardiometa", b"").partition(b"<body>")[0]
    for name in ("main.js", "scan.js", "overview.js", "geometry.js", "server.js", "style.css"):
        status, body, headers = ask(running, "GET", f"{running.path}page/{name}")
        assert status == 200
        assert b"http" not in body
        assert headers["X-Content-Type-Options"] == "nosniff"
    for name in ("../session.py", "..%2fsession.py", "__init__.py", "x"):
        assert ask(running, "GET", f"{running.path}page/{name}")[0] == 404


def test_all_files_of_the_page_are_small() -> None:
    from importlib.resources import files

    folder = files("cardiometa.review") / "page"
    assert sum(len(entry.read_bytes()) for entry in folder.iterdir()) < 150_000


@pytest.mark.parametrize("path", ["/", "/wrong/", "/wrong/api/scans", "", "//", "/api/scans"])
def test_without_the_token_nothing_is_answered(running: Running, path: str) -> None:
    status, body, _ = ask(running, "GET", path or "/")
    assert status == 403
    assert b"ALPHA" not in body
    assert ask(running, "GET", running.path.rstrip("/"))[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1"]
)
def test_another_host_is_refused_with_the_right_token_too(running: Running, host: str) -> None:
    """DNS rebinding: a name of an attacker's that resolves to 127.0.0.1."""
    name = host.format(port=running.port)
    assert ask(running, "GET", f"{running.path}api/scans", Host=name)[0] == 400
    assert (
        ask(running, "GET", f"{running.path}api/scans", Host=f"localhost:{running.port}")[0] == 200
    )


def test_a_change_from_another_origin_is_refused(running: Running) -> None:
    path, body = (
        f"{running.path}api/scans/0/decision",
        json.dumps({"decision": "accepted"}).encode(),
    )
    before = running.session.table()
    for headers in (
        {"Origin": "http://evil.example", **JSON},
        {"Origin": "null", **JSON},
        {"Origin": "", **JSON},  # a form or a program without the header
        {"Sec_Fetch_Site": "cross-site", **JSON},
    ):
        assert ask(running, "POST", path, body, **headers)[0] == 403
    assert ask(running, "POST", path, body, Content_Type="text/plain")[0] == 415
    assert ask(running, "GET", f"{running.path}api/scans", Origin="http://evil.example")[0] == 403
    assert running.session.table() == before


@pytest.mark.parametrize(
    "path",
    ["api/scans/99", "api/scans/-1", "api/scans/..%2f..%2fetc", "api/scans/0/phase/99",
     "api/scans/0/slice/99", "api/scans/0/page/1", "api/scans/0/phase/..", "../out/cardiometa.json",
     "api/scans/ALPHA/001"],
)  # fmt: skip
def test_a_request_names_no_file(running: Running, path: str) -> None:
    status, body, _ = ask(running, "GET", running.path + path)
    assert status in (403, 404)
    assert b"root:" not in body


def test_images_and_labels_have_the_scans_size(running: Running) -> None:
    for part, size in (("phase/0", 9 * 96 * 96), ("slice/4", 20 * 96 * 96)):
        n = next(i for i, k in enumerate(running.session.keys) if k.participant == "001")
        status, body, _ = ask(running, "GET", f"{running.path}api/scans/{n}/{part}")
        assert (status, len(body)) == (200, size)


def test_a_body_of_another_size_is_refused_before_it_is_read(running: Running) -> None:
    n = next(i for i, k in enumerate(running.session.keys) if k.participant == "001")
    revision = running.session.scan(n).revision
    path = f"{running.path}api/scans/{n}/labels?at=0,4&revision={revision}"
    kind = {"Content_Type": "application/octet-stream"}
    size = 96 * 96
    assert ask(running, "PUT", path, bytes(size + 1), **kind)[0] == 413
    assert ask(running, "PUT", path, bytes(size - 1), **kind)[0] == 400
    assert ask(running, "PUT", path, b"\x07" * size, **kind)[0] == 400
    assert ask(running, "PUT", path.replace("0,4", "0,99"), bytes(size), **kind)[0] == 404
    many = ";".join(["0,4"] * 500)
    assert ask(running, "PUT", path.replace("0,4", many), bytes(size), **kind)[0] == 400
    for wrong in ("0", "a,b", ""):
        assert ask(running, "PUT", path.replace("0,4", wrong), bytes(size), **kind)[0] == 400
    chunked = (bytes(size) for _ in range(50))
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)
    headers = {
        "Origin": f"http://127.0.0.1:{running.port}", "Content-Type": "application/octet-stream"
    }  # fmt: skip
    try:
        connection.request("PUT", path, chunked, headers, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server closed the connection before all was sent
    finally:
        connection.close()
    assert running.session.scan(n).revision == revision
    for text in (b"[]", b"{", b"\xff", b" " * 20_000):
        status = ask(running, "POST", f"{running.path}api/scans/{n}/decision", text, **JSON)[0]
        assert status in (400, 413)


def test_the_second_of_two_tabs_is_refused(running: Running) -> None:
    n = next(i for i, k in enumerate(running.session.keys) if k.participant == "002")
    revision = running.session.scan(n).revision
    path = f"{running.path}api/scans/{n}/labels?at=0,4&revision={revision}"
    first, second = bytes(96 * 96), b"\x01" * 96 * 96
    kind = {"Content_Type": "application/octet-stream"}
    assert ask(running, "PUT", path, first, **kind)[0] == 200
    status, body, _ = ask(running, "PUT", path, second, **kind)
    assert status == 409
    assert "another tab" in json.loads(body)["error"]
    assert not running.session.scan(n).labels[0, 4].any()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_not_all_addresses_are_served(running: Running, host: str) -> None:
    with pytest.raises(UsageError, match="every address"):
        Server(running.session, host=host)


def test_a_port_that_is_taken_is_named(running: Running) -> None:
    for port in (running.port, 70_000):
        with pytest.raises(UsageError, match="cannot be used"):
            Server(running.session, port=port)
