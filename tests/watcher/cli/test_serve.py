"""`ckptwatch serve` as a real process: it says where it is, shows the results, and leaves in good order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests.support.database import small_run


def serve(folder, *more: str) -> subprocess.Popen:
    words = [sys.executable, "-m", "watcher.cli", "serve", "--port", "0", *more]
    environment = {**os.environ, "HOME": str(folder)}
    return subprocess.Popen(
        words, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_serve_shows_the_results_and_leaves_on_a_signal_even_with_a_listener(tmp_path, number, status):
    small_run(tmp_path / "ckptwatch.db").close()
    with serve(tmp_path) as process:
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+/", process.stderr.readline())[0]
            assert "2.2000" in urllib.request.urlopen(url, timeout=10).read().decode()
            with urllib.request.urlopen(url + "events", timeout=10) as stream:
                assert stream.readline() == b"retry: 2000\n"
                process.send_signal(number)
                assert process.wait(15) == status
        finally:
            process.kill()


def test_serve_without_a_database_names_the_next_command(ckptwatch, tmp_path):
    said = ckptwatch("serve", "--port", "0", "--db", tmp_path / "none.db")
    assert said.status == 4 and "ckptwatch run" in said.err


def test_serve_beyond_loopback_is_refused_without_a_word(ckptwatch, tmp_path):
    small_run(tmp_path / "ckptwatch.db").close()
    said = ckptwatch("serve", "--port", "0", "--host", "0.0.0.0")
    assert said.status == 3 and "allow_remote" in said.err


def test_a_port_that_is_taken_is_told(ckptwatch, tmp_path):
    import socket

    small_run(tmp_path / "ckptwatch.db").close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = ckptwatch("serve", "--port", other.getsockname()[1])
    assert said.status == 7 and "--port" in said.err


def test_the_missing_extra_is_named(tmp_path):
    small_run(tmp_path / "ckptwatch.db").close()
    code = "import sys; sys.modules['starlette.applications'] = None; from watcher.cli import main\n"
    code += "sys.exit(main(['serve', '--port', '0']))"
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert said.returncode == 7 and "in a clone of ckptwatch: pip install '.[web]'" in said.stderr
