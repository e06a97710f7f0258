"""What the dashboard refuses, spoken to over raw sockets as an attacker would."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.support.training import dashboard, say_healthy, training


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[tuple[str, int]]:
    made = training(tmp_path_factory.mktemp("guard"), points=2)
    say_healthy(made.state)
    with dashboard(made, allowed_hosts=("training.lan",)) as url:
        yield urlsplit(url).hostname, urlsplit(url).port
    made.database.close()


def ask(place: tuple[str, int], text: bytes, timeout_s: float = 10.0) -> tuple[int, str]:
    """Send these bytes; status and the whole answer."""
    with socket.create_connection(place, timeout=timeout_s) as line:
        line.sendall(text)
        answer = b""
        while chunk := line.recv(65536):
            answer += chunk
    return (int(answer.split(b" ", 2)[1]) if answer else 0), answer.decode("latin-1")


def request(
    place: tuple[str, int], target: bytes = b"/", method: bytes = b"GET", host: bytes | None = None, *more: bytes
):
    host = host if host is not None else f"127.0.0.1:{place[1]}".encode()
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: " + host, b"Connection: close", *more, b"", b""]
    return ask(place, b"\r\n".join(lines))


@pytest.mark.parametrize(
    "host", [b"evil.com", b"evil.com:8745", b"127.0.0.1.evil.com", b"", b"[::1", b"localhost.evil"]
)
def test_a_foreign_host_is_refused(place, host):
    status, answer = request(place, host=host)
    assert status in (400, 403)
    assert "gpt-124m" not in answer


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:1", b"LOCALHOST:8745", b"[::1]:99", b"training.lan"])
def test_loopback_names_and_allowed_hosts_are_served(place, host):
    assert request(place, host=host)[0] == 200


def test_a_second_host_header_does_not_slip_through(place):
    status, _ = request(place, b"/", b"GET", None, b"Host: evil.com")
    assert status in (400, 403)


@pytest.mark.parametrize("method", [b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"PROPFIND"])
@pytest.mark.parametrize("target", [b"/", b"/api/results", b"/static/app.js", b"/nothing"])
def test_only_get_and_head_are_taken(place, method, target):
    status, answer = request(place, target, method)
    assert status == 405
    assert "allow: get, head" in answer.lower()


def test_head_answers_without_a_body(place):
    status, answer = request(place, b"/", b"HEAD")
    assert status == 200 and answer.endswith("\r\n\r\n")


def test_a_page_of_another_site_cannot_read(place):
    assert request(place, b"/api/results", b"GET", None, b"Origin: https://evil.com")[0] == 403
    assert request(place, b"/api/results", b"GET", None, b"Origin: null")[0] == 403
    status, answer = request(place, b"/api/results", b"GET", None, b"Origin: http://localhost:8745")
    assert status == 200 and "access-control-allow-origin" not in answer.lower()
    assert request(place, b"/api/results", b"GET", None, b"Origin: http://[")[0] == 403


@pytest.mark.parametrize(
    "target",
    [
        *(b"/static/..%2f..%2fapp.py", b"/static/../app.py", b"/..%2f..%2fetc/passwd", b"/static/%2e%2e/app.py"),
        *(b"/static/app.js%00.css", b"/checkpoints/1%00", b"/static/..%5capp.py", b"/static//etc/passwd"),
        *(b"/static/%2fetc%2fpasswd", b"/jobs/1;ls", b"/checkpoints/-1", b"/checkpoints/1.5", b"/static/"),
    ],
)
def test_no_path_reaches_a_file(place, target):
    status, answer = request(place, target)
    assert status in (400, 404)
    assert "root:" not in answer and "Starlette" not in answer


def test_a_raw_nul_and_junk_are_refused(place):
    assert ask(place, b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n")[0] == 400
    assert ask(place, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")[0] in (0, 400)


def test_long_addresses_are_refused(place):
    assert request(place, b"/?q=" + b"a" * 5000)[0] == 414
    try:
        status, _ = request(place, b"/" + b"a" * 65536)
    except ConnectionResetError:
        status = 400  # it hung up while we were still talking
    assert status in (400, 414, 431)


def test_a_request_with_a_body_is_refused(place):
    assert request(place, b"/", b"GET", None, b"Content-Length: 1000000000")[0] == 413
    assert request(place, b"/", b"GET", None, b"Transfer-Encoding: chunked")[0] == 413


def test_every_answer_carries_the_headers_that_bind_the_browser(place):
    for target in (b"/", b"/static/app.js", b"/api/results", b"/nothing", b"/healthz", b"/static/..%2fx"):
        _, answer = request(place, target)
        head = answer.split("\r\n\r\n")[0].lower()
        assert "default-src 'none'; script-src 'self'" in head and "unsafe" not in head
        assert "x-content-type-options: nosniff" in head and "frame-ancestors 'none'" in head
        assert "server:" not in head


def test_two_hundred_slow_and_idle_clients_do_not_block_others(place):
    slow = [socket.create_connection(place, timeout=10) for _ in range(200)]
    try:
        for line in slow[:100]:
            line.sendall(b"GET / HTTP/1.1\r\nHost: local")  # and then nothing
        assert request(place)[0] == 200
        assert request(place, b"/api/results")[0] == 200
    finally:
        for line in slow:
            line.close()


def test_a_request_that_does_not_arrive_whole_is_hung_up_on(tmp_path, monkeypatch):
    monkeypatch.setattr("watcher.web.server.REQUEST_TIMEOUT_S", 0.3)
    made = training(tmp_path, points=2)
    with dashboard(made) as url:
        place = (urlsplit(url).hostname, urlsplit(url).port)
        with socket.create_connection(place, timeout=20) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: local")
            assert line.recv(100) == b""
        with socket.create_connection(place, timeout=20) as line:
            assert line.recv(100) == b""  # said nothing at all
    made.database.close()


def test_more_listeners_than_allowed_get_503_and_the_pages_go_on(place, monkeypatch):
    monkeypatch.setattr("watcher.web.live.STREAMS_MAX", 3)
    lines = []
    try:
        for _ in range(3):
            line = socket.create_connection(place, timeout=10)
            line.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"text/event-stream" in line.recv(4096)
            lines.append(line)
        deadline = time.monotonic() + 10
        while (status := request(place, b"/events", b"HEAD")[0]) != 503 and time.monotonic() < deadline:
            pass
        assert status == 503
        assert request(place)[0] == 200
    finally:
        for line in lines:
            line.close()
