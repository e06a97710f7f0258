"""Alerts told for real: a program with the event on stdin, an HTTP server, Apprise, and the best link on a disk."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.support.waiting import wait_until
from watcher.alerts.channels import send_alert
from watcher.errors import DeliveryError
from watcher.settings.schema import AlertSettings

EVENT = {
    "kind": "nonfinite",
    "text": "gpt: step_5.pt on val: the loss is not finite",
    "run": "gpt",
    "result": {"loss": None},
}


def alert(**settings) -> AlertSettings:
    return AlertSettings(on=("best", "nonfinite"), **settings)


class _Listening(BaseHTTPRequestHandler):
    heard: list[tuple[str, dict, dict]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).heard.append((self.path, dict(self.headers), json.loads(body)))
        self.send_response(type(self).status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        type(self).heard.append((self.path, {}, {"followed": True}))

    def log_message(self, *words) -> None:
        return


@pytest.fixture
def listening() -> Iterator[tuple[str, type[_Listening]]]:
    handler = type("Handler", (_Listening,), {"heard": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def program(path: Path, body: str) -> tuple[str, str]:
    path.write_text(body)
    return sys.executable, str(path)


def test_a_command_gets_the_event_on_stdin(tmp_path):
    heard = tmp_path / "heard.json"
    copies = program(tmp_path / "hook.py", "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())")
    send_alert(alert(command=(*copies, str(heard))), EVENT, tmp_path)
    assert json.loads(heard.read_text()) == EVENT


def test_a_command_that_hangs_is_killed_with_all_that_it_started(tmp_path):
    body = "import os, subprocess, sys, time\np = subprocess.Popen(['sleep', '600'])\n"
    body += "open(sys.argv[1], 'w').write(f'{os.getpid()} {p.pid}')\ntime.sleep(600)\n"
    pids = tmp_path / "pids"
    hangs = program(tmp_path / "hook.py", body)
    with pytest.raises(DeliveryError, match=r"longer than 1\.5 s and was killed"):
        send_alert(alert(command=(*hangs, str(pids)), timeout_s=1.5), EVENT, tmp_path)
    for pid in pids.read_text().split():
        wait_until(lambda pid=pid: _gone(int(pid)), 10)


def test_a_command_that_fails_tells_its_last_words(tmp_path):
    fails = program(tmp_path / "hook.py", "import sys; print('no such channel', file=sys.stderr); sys.exit(3)")
    with pytest.raises(DeliveryError, match="status 3: no such channel"):
        send_alert(alert(command=fails), EVENT, tmp_path)
    with pytest.raises(DeliveryError, match="cannot be started"):
        send_alert(alert(command=(str(tmp_path / "absent"),)), EVENT, tmp_path)


def test_a_webhook_gets_the_event_as_json(listening, tmp_path):
    url, server = listening
    send_alert(alert(webhook=f"{url}/hooks/s3cret"), EVENT, tmp_path)
    ((path, headers, body),) = server.heard
    assert (path, headers["Content-Type"], body) == ("/hooks/s3cret", "application/json", EVENT)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_refuses_or_redirects_is_an_error_that_keeps_its_secret(listening, tmp_path, status):
    url, server = listening
    server.status = status
    with pytest.raises(DeliveryError) as caught:
        send_alert(alert(webhook=f"{url}/hooks/s3cret"), EVENT, tmp_path)
    assert str(status) in caught.value.cause and "s3cret" not in caught.value.cause
    assert len(server.heard) == 1


def test_a_webhook_that_nobody_answers_is_an_error(tmp_path):
    with pytest.raises(DeliveryError, match="cannot be reached"):
        send_alert(alert(webhook="http://127.0.0.1:9/x", timeout_s=2), EVENT, tmp_path)


def test_apprise_posts_to_what_its_url_names(listening, tmp_path):
    pytest.importorskip("apprise")
    url, server = listening
    send_alert(alert(apprise=url.replace("http://", "json://")), EVENT, tmp_path)
    ((_, _, body),) = server.heard
    assert (body["title"], body["message"]) == ("ckptwatch: nonfinite", EVENT["text"])
    with pytest.raises(DeliveryError, match="not a URL that Apprise knows"):
        send_alert(alert(apprise="nonsense"), EVENT, tmp_path)


def best(folder: Path, name: str, loss: float) -> dict:
    path = folder / name
    path.write_bytes(name.encode())
    status = path.stat()
    about = {"kind": "best", "text": "new best", "run": "gpt", "eval_set": "val", "checkpoint": name, "step": 1}
    return {
        **about,
        "result": {"loss": loss, "eval_digest": "sha256:11"},
        "dir": str(folder),
        "source": str(path),
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
    }


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path, Path]:
    made = tmp_path / "ckpts", tmp_path / "best", tmp_path / "memory"
    for folder in made:
        folder.mkdir()
    return made


def test_the_best_link_and_copy_follow_the_best_and_a_late_worse_one_is_left(folders):
    ckpts, aside, memory = folders
    rule = alert(best_link=aside / "best.pt", best_copy=aside / "deep" / "copy.pt")
    for name, loss in (("a.pt", 2.0), ("b.pt", 1.5), ("late.pt", 1.8)):
        send_alert(rule, best(ckpts, name, loss), memory)
    assert os.readlink(aside / "best.pt") == str(ckpts / "b.pt")
    assert (aside / "deep" / "copy.pt").read_bytes() == b"b.pt"
    assert sorted(p.name for p in aside.rglob("*.pt")) == ["best.pt", "copy.pt"]


def test_the_best_link_does_not_lie_in_the_watched_folder_unless_that_is_wanted(folders):
    ckpts, _, memory = folders
    (ckpts / "sub").mkdir()
    with pytest.raises(DeliveryError, match="inside_dir = true"):
        send_alert(alert(best_link=ckpts / "sub" / "best.pt"), best(ckpts, "a.pt", 2.0), memory)
    assert list((ckpts / "sub").iterdir()) == []
    send_alert(alert(best_link=ckpts / "best.pt", inside_dir=True), best(ckpts, "a.pt", 2.0), memory)
    assert (ckpts / "best.pt").is_symlink()


def test_a_best_that_was_overwritten_or_deleted_since_is_not_linked(folders):
    ckpts, aside, memory = folders
    event = best(ckpts, "a.pt", 2.0)
    (ckpts / "a.pt").write_bytes(b"another version")
    with pytest.raises(DeliveryError, match="overwritten"):
        send_alert(alert(best_copy=aside / "best.pt"), event, memory)
    (ckpts / "a.pt").unlink()
    with pytest.raises(DeliveryError, match="is gone"):
        send_alert(alert(best_link=aside / "best.pt"), event, memory)
    assert list(aside.iterdir()) == []


def _gone(pid: int) -> bool:
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def test_a_best_link_is_never_moved_by_the_loss_of_another_run_or_set(folders):
    ckpts, aside, memory = folders
    rule = alert(best_link=aside / "best.pt")
    send_alert(rule, best(ckpts, "a.pt", 3.0), memory)
    for other in ({"run": "lr6e-4"}, {"eval_set": "wiki"}):
        with pytest.raises(DeliveryError, match="not comparable") as caught:
            send_alert(rule, {**best(ckpts, "b.pt", 1.0), **other}, memory)
        assert "{" + next(iter(other)) + "}" in caught.value.hint
    assert os.readlink(aside / "best.pt") == str(ckpts / "a.pt")


def test_run_and_set_in_the_path_give_each_curve_a_link_of_its_own(folders):
    ckpts, aside, memory = folders
    rule = alert(best_link=aside / "{run}" / "{eval_set}.pt")
    for name, run, eval_set, loss in (
        ("a.pt", "gpt", "val", 3.0),
        ("b.pt", "a/b", "val", 1.0),
        ("c.pt", "gpt", "w", 9),
    ):
        send_alert(rule, {**best(ckpts, name, loss), "run": run, "eval_set": eval_set}, memory)
    send_alert(rule, best(ckpts, "d.pt", 2.5), memory)
    links = {str(p.relative_to(aside)): os.path.basename(os.readlink(p)) for p in aside.rglob("*.pt")}
    assert links == {"gpt/val.pt": "d.pt", "a_b/val.pt": "b.pt", "gpt/w.pt": "c.pt"}


def test_a_set_that_was_redefined_starts_a_new_best(folders):
    ckpts, aside, memory = folders
    rule = alert(best_link=aside / "best.pt")
    send_alert(rule, best(ckpts, "a.pt", 1.0), memory)
    event = best(ckpts, "b.pt", 2.0)
    event["result"]["eval_digest"] = "sha256:22"
    send_alert(rule, event, memory)
    assert os.readlink(aside / "best.pt") == str(ckpts / "b.pt")


def test_one_best_link_for_several_runs_or_sets_is_refused_with_the_remedy(tmp_path):
    from watcher.errors import ConfigError
    from watcher.settings.load import load_settings

    runs = "".join(f'[[run]]\nname = "{name}"\ndir = "{tmp_path}"\n' for name in ("a", "b"))
    sets = "".join(f'[[eval]]\nname = "{name}"\ndata = "{tmp_path}/{name}.npy"\n' for name in ("v", "w"))
    file = tmp_path / "c.toml"

    def load(text: str) -> None:
        file.write_text(text)
        load_settings(file)

    for sections, remedy in ((runs, "{run}"), (sets, "{eval_set}")):
        with pytest.raises(ConfigError) as caught:
            load(f'{sections}[[alert]]\non = ["best"]\nbest_link = "best.pt"\n')
        assert remedy in f"{caught.value.cause} {caught.value.hint}"
    load(f'{sets}[[alert]]\non = ["best"]\nbest_link = "best.pt"\neval_set = "v"\n')
    load(f'{runs}{sets}[[alert]]\non = ["best"]\nbest_link = "{{run}}-{{eval_set}}.pt"\n')
