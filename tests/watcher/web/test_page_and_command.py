"""What a verb prints stands on a page: the JSON of the verb beside the page's JSON twin and its visible text."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from tests.support.training import Training, say_healthy, training
from watcher.cli import main
from watcher.domain.timestamps import iso
from watcher.report import format
from watcher.store import schema


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    """A launch in progress, a queue with a job of a second attempt, a failure, a rejected file, a job of samples."""
    one = training(tmp_path_factory.mktemp("beside"), points=12)
    say_healthy(one.state)
    database = one.database
    with database.store.read() as tx:
        waiting = tx.exec_driver_sql("SELECT max(id) FROM jobs WHERE state = 'queued'").scalar_one()
    again = {
        "job_id": waiting,
        "launch_id": "launch-a",
        "token": "t",
        "claimed_at": iso(1.8e9),
        "started_at": iso(1.8e9),
        "finished_at": iso(1.8e9 + 60),
    }
    database._insert(schema.attempts, **again, outcome="failed", kind="timeout", charged=1)
    row = {"run": "gpt-124m", "path": "cut.pt", "kind": "corrupt", "reason": "cut off", "hint": "copy it again"}
    row |= {"final": 1, "size_bytes": 4_096, "mtime_ns": 1, "ctime_ns": 1, "at": iso(1.8e9)}
    database._insert(schema.candidates, **row)
    yield one
    database.close()


@pytest.fixture
def verb(made, capsys):
    """The object that a verb prints with --json."""

    def run(*words: str):
        main([*words, "--json", "--db", made.url])
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def page(url):
    """A page's JSON twin and its visible text, with a space for each tag."""

    def read(path: str) -> tuple[dict, str]:
        twin = json.load(urllib.request.urlopen(f"{url}{path}?format=json"))
        words = _Words()
        words.feed(urllib.request.urlopen(f"{url}{path}").read().decode())
        return twin, re.sub(r"\s+", " ", " ".join(words.parts))

    return read


class _Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def test_the_queue_page_shows_every_job_of_queue_list(verb, page):
    twin, text = page("/queue")
    shown = {row["job"]: row for row in (*twin["tables"]["queued"]["rows"], *twin["running"])}
    listed = verb("queue", "list")
    assert {row["state"] for row in listed} == {"queued", "running"} and len(listed) == len(shown) == 3
    for row in listed:
        assert {key: shown[row["job"]][key] for key in row if key != "age_s"} | {"age_s": row["age_s"]} == row
        numbers = [str(row["job"]), row["run"], format.integer(row["step"]), row["eval_set"]]
        assert " ".join(numbers) in text and row["checkpoint"] in text
    assert {row["kind"] for row in listed} == {None, "timeout"}


def test_the_queue_page_shows_every_failure_of_queue_list_failed(verb, page):
    twin, text = page("/queue")
    jobs = {row["job"]: row for row in twin["tables"]["failed"]["rows"]}
    files = {row["path"]: row for row in twin["tables"]["files"]["rows"]}
    listed = verb("queue", "list", "--failed")
    assert {row["state"] for row in listed} == {"failed", "rejected"}
    for row in listed:
        same = jobs[row["job"]] if row["job"] else files[row["checkpoint"]]
        assert {key: same[key] for key in ("run", "kind", "reason", "hint")} == {
            key: row[key] for key in ("run", "kind", "reason", "hint")
        }
        assert same["finished_at" if row["job"] else "at"] == row["at"]
        for key in ("run", "checkpoint", "kind", "reason", "hint"):
            assert row[key] is None or row[key] in text, key
        if row["job"]:
            assert (same["step"], same["eval_set"], same["attempts"]) == (row["step"], row["eval_set"], row["attempts"])


def test_the_queue_page_shows_the_counts_the_wait_and_the_running_jobs_of_status(verb, page):
    facts, (twin, text) = verb("status"), page("/queue")
    assert (twin["counts"], twin["samples"]) == (facts["queue"], facts["samples"])
    for state, number in facts["queue"].items():
        assert f"{number} {state}" in text
    assert twin["lag_s"] == pytest.approx(facts["lag_s"], abs=60)
    assert twin["eta_s"] == pytest.approx(facts["eta_s"], abs=60)
    words = f"queued for {format.duration(twin['lag_s'])}; empty in about {format.duration(twin['eta_s'])}."
    assert _without_numbers(words) in _without_numbers(text)
    assert len(twin["tables"]["failed"]["rows"]) + len(twin["tables"]["files"]["rows"]) == facts["failures"]
    (running,), (same,) = facts["running"], twin["running"]
    for key in ("job", "run", "checkpoint", "step", "eval_set", "set_kind", "device", "launch", "claimed_at"):
        assert running[key] == same[key], key
    for key, other in (("phase", "phase"), ("progress", "amount"), ("share", "share")):
        assert running[key] == same["progress"][other]
    assert f"{running['phase']} {running['progress']}" in text and f" {running['device']} " in text


def test_the_system_page_and_the_results_show_what_status_tells_of_daemon_and_last_results(verb, page):
    facts, (twin, text) = verb("status"), page("/system")
    daemon = twin["daemon"]
    assert (daemon["pid"], daemon["started_at"], daemon["at"]) == (
        facts["pid"],
        facts["started_at"],
        facts["heard_at"],
    )
    assert (twin["database"]["url"], twin["state_folder"]) == (facts["database"], facts["state_dir"])
    assert daemon["runs"] == facts["runs"] and daemon["state"] == facts["state"]
    for words in (str(facts["pid"]), facts["database"], facts["state_dir"]):
        assert words in text
    for run in facts["runs"]:
        took = format.duration(run["scan_seconds"])
        assert f"{run['name']} {format.integer(run['matching'])} files match, scanned in {took}" in text
    rows, text = page("/results")
    shown = {row["id"]: row for row in rows["tables"]["results"]["rows"]}
    assert len(facts["last_results"]) == 5
    for result in facts["last_results"]:
        same = shown[result["id"]]
        assert {key: same[key] for key in same.keys() & result.keys()} == {
            key: result[key] for key in same.keys() & result.keys()
        }
        for number in (
            format.decimal(result["loss"]),
            format.decimal(result["ppl"], 3),
            format.integer(result["tokens"]),
        ):
            assert number in text


def _without_numbers(text: str) -> str:
    """The wait goes on between two readings."""
    return re.sub(r"[\d.]+", "N", text)
