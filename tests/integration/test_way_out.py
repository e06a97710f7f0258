"""The daemon with everything that looks out of it: dashboard in a thread, sinks, alerts; stopped, killed, run once."""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support.daemon import Site, wait_until
from tests.support.tiny import write_tiny

HOOK = "import json, sys; open(sys.argv[1], 'a').write(json.dumps(json.load(sys.stdin)) + chr(10))"


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    hook = tmp_path / "hook.py"
    hook.write_text(HOOK)
    command = json.dumps([sys.executable, str(hook), str(tmp_path / "told")])
    made.config.write_text(
        made.config.read_text()
        + "[web]\nenabled = true\nport = 0\n"
        + '[[sink]]\nkind = "jsonl"\npath = "out/results.jsonl"\n[[sink]]\nkind = "tensorboard"\npath = "out/runs"\n'
        + f'[[alert]]\non = ["result", "failure"]\ncommand = {command}\n'
    )
    yield made
    made.end()


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def address(site: Site) -> str:
    return wait_until(lambda: (found := re.search(r"dashboard at (http://\S+)/", site.log())) and found[1])


def test_a_result_reaches_page_sinks_and_alert_and_the_daemon_leaves_in_good_order(site, tmp_path):
    process = site.start()
    url = address(site)
    write_tiny(site.folder / "step_100.pt", 100)
    (loss,) = site.wait_for_results(1)["step_100.pt"]
    (row,) = wait_until(lambda: lines(tmp_path / "out" / "results.jsonl"))
    assert (row["checkpoint"], row["step"], row["loss"]) == ("step_100.pt", 100, loss)
    (told,) = wait_until(lambda: lines(tmp_path / "told"))
    assert told["kind"] == "result" and told["result"]["loss"] == loss
    wait_until(lambda: list((tmp_path / "out" / "runs" / "run" / "ckptwatch").glob("events*")))
    assert f"{loss:.4f}" in get(url + "/")[1]
    wait_until(lambda: get(url + "/healthz")[0] == 200 == get(url + "/readyz")[0])
    sent = "SELECT sink, state FROM exports WHERE kind IN ('result', 'event') AND sink <> 'alerts'"
    wait_until(lambda: {state for _, state in site.query(sent)} == {"done"} and len(site.query(sent)) == 3)
    with urllib.request.urlopen(url + "/events", timeout=10):  # a listener does not hold the daemon up
        assert site.stop(process, within_s=15) == 0
    site.assert_sound()


def test_a_daemon_killed_at_any_moment_sends_every_result_once(site, tmp_path):
    for number in (1, 2):
        site.start()
        write_tiny(site.folder / f"step_{number}.pt", number)
        site.wait_for_results(number)
        site.kill()
    process = site.start()
    wait_until(lambda: len(lines(tmp_path / "out" / "results.jsonl")) >= 2)
    write_tiny(site.folder / "step_3.pt", 3)
    wait_until(lambda: len(lines(tmp_path / "out" / "results.jsonl")) >= 3)
    assert sorted(row["step"] for row in lines(tmp_path / "out" / "results.jsonl")) == [1, 2, 3]
    assert site.stop(process) == 0


def test_once_ends_after_what_it_found_was_sent(site, tmp_path):
    write_tiny(site.folder / "step_1.pt", 1)
    (site.folder / "step_2.pt").write_bytes(b"no zip at all, and long enough")
    done = site.once()
    assert done.returncode == 5, done.stderr
    assert [row["step"] for row in lines(tmp_path / "out" / "results.jsonl")] == [1]
    assert sorted(event["kind"] for event in lines(tmp_path / "told")) == ["failure", "result"]
    assert "dashboard at" not in done.stderr


def test_a_taken_port_costs_the_dashboard_and_not_the_daemon(site):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        site.config.write_text(site.config.read_text().replace("port = 0", f"port = {port}"))
        process = site.start()
        assert "no dashboard: cannot listen on 127.0.0.1" in wait_until(
            lambda: "no dashboard" in site.log() and site.log()
        )
        write_tiny(site.folder / "step_1.pt", 1)
        site.wait_for_results(1)
        assert site.stop(process) == 0


def test_a_daemon_with_its_dashboard_and_sinks_stays_small(site):
    """Below the 80 MB of a daemon, with every page looked at, and no heavy library in it."""
    site.stop(site.start())  # the first start makes the database, and loads what only that needs
    process = site.start()
    url = address(site)
    write_tiny(site.folder / "step_1.pt", 1)
    site.wait_for_results(1)
    for path in (
        "/",
        "/runs",
        "/checkpoints",
        "/checkpoints/1",
        "/queue",
        "/data",
        "/system",
        "/metrics",
        "/api/curves",
    ):
        assert get(url + path)[0] == 200
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert pages < 80e6, f"{pages / 1e6:.1f} MB"
    assert not re.search(r"libtorch|_multiarray_umath|libarrow", Path(f"/proc/{process.pid}/maps").read_text())
    assert site.stop(process) == 0
