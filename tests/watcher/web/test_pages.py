"""The dashboard's pages, their JSON twins, health and metrics, over a real server and a real database."""

from __future__ import annotations

import io
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.training import Training, dashboard, say_healthy, training
from watcher.log import Log
from watcher.store import schema
from watcher.web.routes import PAGES


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    one = training(tmp_path_factory.mktemp("web") / "a folder; with 'signs'", points=10)
    say_healthy(one.state)
    yield one
    one.database.close()


def get(address: str) -> tuple[int, dict[str, str], str]:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, dict(answer.headers.items()), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers.items()), error.read().decode()


@pytest.mark.parametrize("name", [name for name in PAGES if name != "items"])  # its own test: needs a task
def test_every_page_is_shown_and_has_a_json_twin_with_the_same_facts(url, name):
    path = PAGES[name][0].replace("{id:int}", "2")
    status, headers, page = get(url + path)
    assert status == 200 and "text/html" in headers["content-type"]
    twin = json.loads(get(f"{url}{path}?format=json")[2])
    assert isinstance(twin, dict) and twin
    if name != "results":  # /api/results is for clients that ask again from the last id they have
        again = json.loads(get(f"{url}/api{path if path != '/' else '/overview'}")[2])
        assert again.keys() == twin.keys()
    assert "format=json" in page


def test_a_launch_is_listed_under_its_name(url):
    rows = json.loads(get(url + "/api/system")[2])["tables"]["launches"]["rows"]
    assert {row["id"] for row in rows} == {"launch-a", "launch-b"}
    assert '<td class="mono">launch-a</td>' in get(url + "/system")[2]


def test_the_overview_shows_the_newest_result_and_the_best(url, made):
    page = get(url + "/")[2]
    twin = json.loads(get(url + "/api/overview")[2])
    shown = next(run for run in twin["runs"] if run["name"] == "gpt-124m")
    assert twin["set"] == "fineweb" and f"{shown['best']['loss']:.4f}" in page and f"{shown['value']:.4f}" in page
    assert twin["newest"][0]["id"] == max(row["id"] for row in twin["newest"])
    assert '<div class="label">last evaluated: loss</div>' in page  # an older step may be evaluated after a newer one
    queue = json.loads(get(url + "/api/queue")[2])
    assert queue["running"][0]["progress"] == {
        "phase": "evaluating",
        "share": 361 / 1024,
        "amount": "361/1,024 windows",
    }
    assert "361/1,024 windows" in get(url + "/queue")[2]


def test_a_checkpoint_page_tells_the_command_that_measures_it_again(url):
    twin = json.loads(get(url + "/api/checkpoints/1")[2])
    command = twin["results"][0]["reproduce"]
    assert command.startswith("ckptwatch eval /home/ada/out/gpt-124m/gpt_step_000500.pt --data /data/fineweb.npy")
    assert "--seq-len 64" in command and "--device cpu --batch-size 8 --db reproduce.db --again" in command
    assert command in get(url + "/checkpoints/1")[2]


def test_a_failed_jobs_page_shows_the_end_of_its_log(url):
    failed = json.loads(get(url + "/api/queue")[2])["tables"]["failed"]["rows"][0]
    page = get(f"{url}/jobs/{failed['job']}")[2]
    assert "record data/17 has CRC 0x9d1f" in page
    assert "token" not in json.loads(get(f"{url}/api/jobs/{failed['job']}")[2])["tries"][0]


def test_a_log_outside_the_state_folder_is_never_shown(url, made, tmp_path):
    (tmp_path / "worker.log").write_text("a secret")
    job = made.database.job(made.database.checkpoint(77, "gpt-124m"), "failed", "gpt-124m", "fineweb")
    made.database.launch(job, tmp_path, "launch-outside", open_=False)
    status, _, page = get(f"{url}/jobs/{job}")
    assert status == 200 and "a secret" not in page


def test_results_come_in_pages_from_the_last_id_a_client_has(url):
    first = json.loads(get(url + "/api/results?limit=3")[2])
    second = json.loads(get(f"{url}/api/results?limit=3&after={first['next']}")[2])
    assert [row["id"] for row in first["results"]] == [1, 2, 3]
    assert [row["id"] for row in second["results"]] == [4, 5, 6]
    only = json.loads(get(url + "/api/results?run=2&set=wikitext")[2])["results"]
    assert {(row["run"], row["eval_set"]) for row in only} == {("gpt-124m-lr6e-4", "wikitext")}


def test_two_runs_are_compared_at_the_steps_that_both_have_paired_by_window(url, made):
    nats, targets = [100.0, 900.0, 400.0, 650.0] * 4, [128] * 16
    for run, better in (("gpt-124m", 0.0), ("gpt-124m-lr6e-4", 3.0)):
        windows = [value - better - 0.01 * place for place, value in enumerate(nats)]
        checkpoint = {"checkpoint": "paired.pt", "checkpoint_digest": f"sha256:paired-{run}", "loss_stderr": 0.5}
        made.database.result(7777, None, run, "fineweb", windows=windows, targets=targets, **checkpoint)
    address = "/compare?of=gpt-124m&of=gpt-124m-lr6e-4&set=fineweb"
    (compared,) = json.loads(get(url + "/api" + address)[2])["compared"]
    assert [row["a_step"] for row in compared["rows"]] == [7777, 1000, 500]
    paired, unpaired = compared["rows"][:2]
    assert paired["method"] == "paired" and paired["significant"] and paired["difference"] == pytest.approx(-3 / 128)
    assert unpaired["method"] == "unpaired"
    assert unpaired["difference"] == pytest.approx(unpaired["b"] - unpaired["a"])
    assert paired["low"] == paired["high"] == pytest.approx(-3 / 128)  # every window differs by the same 3 nats
    assert paired["p"] < 0.001
    page = get(url + address)[2]
    assert "&lt;0.001" in page and "gpt-124m-lr6e-4 is better" in page


def test_metrics_are_well_formed_and_give_the_newest_and_best_loss(url):
    status, headers, text = get(url + "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    sample = re.compile(r'[a-z_]+(\{([a-z_]+="(\\.|[^"\\\n])*",?)*\})? (NaN|[-+]?[0-9.e+-]+|[+-]Inf)')
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines and all(sample.fullmatch(line) for line in lines), [x for x in lines if not sample.fullmatch(x)]
    rows = json.loads(get(url + "/api/results?run=1&set=fineweb")[2])["results"]
    best = min(row["loss"] for row in rows if row["finite"])
    assert f'ckptwatch_best_loss{{run="gpt-124m",eval_set="fineweb"}} {best!r}' in lines
    assert 'ckptwatch_sample_jobs{state="queued"} 0' in lines
    failed = json.loads(get(url + "/api/queue")[2])["counts"]["failed"]
    assert failed > 0 and f'ckptwatch_jobs{{state="failed"}} {failed}' in lines
    assert "ckptwatch_up 1" in lines


def test_health_is_503_with_its_reasons_once_something_is_wrong_and_200_when_it_is_over(url, made):
    assert get(url + "/healthz")[0] == 200 and get(url + "/readyz")[0] == 200
    say_healthy(made.state, state="degraded", reasons=["run gpt: the folder <b>/x</b> is missing"])
    status, _, text = get(url + "/healthz")
    assert status == 503 and json.loads(text)["reasons"] == ["run gpt: the folder <b>/x</b> is missing"]
    assert "&lt;b&gt;/x&lt;/b&gt; is missing" in get(url + "/")[2]
    say_healthy(made.state)
    assert get(url + "/healthz")[0] == 200


def test_names_from_outside_are_escaped_on_every_page(url, made):
    hostile = '<img src=x onerror="document.title=1">\u202e.pt'
    number = made.database.checkpoint(
        99, "gpt-124m", hostile, family="<script>alert(1)</script>", config=json.dumps({"<b>k</b>": "</dd><script>"})
    )
    made.database.job(number, "failed", "gpt-124m", "fineweb", reason="<img src=y onerror=alert(2)>")
    made.database._insert(
        schema.events, at="2026-01-01T00:00:00.000000Z", name="alert", detail=json.dumps({"text": "<i>oops</i>"})
    )
    for path in ("/", "/checkpoints", f"/checkpoints/{number}", "/queue", "/system"):
        page = get(url + path)[2]
        assert not re.search(r"<(img src=[xy]|script>|b>k|i>oops)", page), path
        assert "\u202e" not in page
    assert "&lt;img src=x" in get(url + "/checkpoints")[2]


def test_pages_hold_no_inline_script_style_or_handler(url):
    for name, (path, _, _) in PAGES.items():
        if name == "items":
            continue
        page = get(url + path.replace("{id:int}", "1"))[2]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|<[a-z][^>]*\s(style|on\w+)=", page), name
        assert not re.search(r"(src|href)=\"(https?:)?//", page), name


def test_unknown_things_are_404_in_words_and_in_json(url):
    assert get(url + "/checkpoints/999999")[0] == 404
    assert get(url + "/checkpoints/99999999999999999999")[0] == 404
    assert get(url + "/checkpoints/../../etc/passwd")[0] in (400, 404)
    status, _, text = get(url + "/api/jobs/424242")
    assert status == 404 and "error" in json.loads(text)


def test_a_database_that_goes_away_is_told_and_not_a_crash(tmp_path):
    made = training(tmp_path, points=2)
    say_healthy(made.state)
    with dashboard(made) as address:
        aside = made.database.path.rename(tmp_path / "aside.db")
        status, _, page = get(address + "/")
        assert status == 503 and "cannot be used" in page
        assert get(address + "/healthz")[0] == 503
        aside.rename(Path(made.url))
        assert get(address + "/")[0] == 200
    made.database.close()


@pytest.fixture
def small(tmp_path) -> Iterator[Training]:
    one = training(tmp_path, points=3)
    say_healthy(one.state)
    yield one
    one.database.close()


def test_two_runs_are_compared_although_a_shared_step_is_not_finite(small):
    for run in ("gpt-124m", "gpt-124m-lr6e-4"):
        number = 9000
        name = {"checkpoint": "nan.pt", "checkpoint_digest": f"sha256:nan-{run}"}
        small.database.result(number, None if run == "gpt-124m" else 3.0, run, "fineweb", **name)
    with dashboard(small) as address:
        query = "compare?of=gpt-124m&of=gpt-124m-lr6e-4&set=fineweb"
        status, _, text = get(f"{address}/api/{query}")
        row = json.loads(text)["compared"][0]["rows"][0]
        assert status == 200 and row["a_step"] == 9000 and row["difference"] is None
        assert row["verdict"] == "cannot be compared: the loss of gpt-124m at step 9000 is not finite"
        assert row["verdict"] in get(f"{address}/{query}")[2]


def test_the_error_of_a_page_is_in_the_log_with_its_traceback_and_the_page_says_so(small, monkeypatch):
    from watcher.store.read.dashboard import Pages

    def broken(*_: object) -> None:
        raise KeyError("no such column")

    monkeypatch.setattr(Pages, "run_names", broken)
    stream = io.StringIO()
    with dashboard(small, Log(stream=stream)) as address:
        status, _, page = get(address + "/queue")
        reference = re.search("reference ([0-9a-f]{8})", page)[1]
        assert status == 500 and "KeyError in /queue" in page and "log of" in page
        assert "KeyError" in json.loads(get(address + "/api/queue")[2])["error"]
        assert get(address + "/data")[0] == 200
    words = stream.getvalue()
    assert f"page /queue failed: KeyError: 'no such column' (reference {reference})" in words
    assert "Traceback (most recent call last)" in words and "in broken" in words


def test_a_reason_of_megabytes_costs_the_page_a_line(small):
    huge = f"unknown tensor {'w' * 3_000_000}"
    for step in range(5):
        number = small.database.checkpoint(70_000 + step, "gpt-124m")
        small.database.job(number, "failed", "gpt-124m", "fineweb", reason=huge)
    small.database._insert(
        schema.events, at="2026-01-01T00:00:00.000000Z", name="alert", detail=json.dumps({"text": huge})
    )
    with dashboard(small) as address:
        for path in ("/queue", "/system", "/checkpoints", f"/checkpoints/{number}", f"/jobs/{number}"):
            status, _, page = get(address + path)
            assert status in (200, 404) and len(page) < 100_000, path
            assert len(get(f"{address}{path}?format=json")[2]) < 250_000, path
        assert "more characters" in get(address + "/queue")[2]


def test_a_checkpoint_is_compared_with_the_mean_that_ends_there_and_never_by_itself(url, made):
    for weights, nats in ((None, 200.0), ("mean3", 199.0)):
        more = {"weights": weights, "checkpoint": f"m{weights}.pt", "checkpoint_digest": f"sha256:{weights}"}
        made.database.result(8888, None, "gpt-124m", "fineweb", windows=[nats] * 8, targets=[64] * 8, **more)
    mean = {"run": "gpt-124m", "spec": "mean3", "weights": "mean3", "newest_id": 1, "path": "m#mean3", "digest": "d"}
    with made.database.store.write() as tx:
        tx.execute(
            schema.averages.insert().values(**mean, checkpoint_id=1, state="final", at="2026-01-01T00:00:00.000Z")
        )
    address = "/compare?of=gpt-124m@8888&of=gpt-124m@8888%23mean3&set=fineweb"
    ((row,),) = [each["rows"] for each in json.loads(get(url + "/api" + address)[2])["compared"]]
    assert row["method"] == "paired" and row["difference"] == pytest.approx(-1 / 64)
    assert "gpt-124m@8888#mean3 is better" in get(url + address)[2]
    single = json.loads(get(url + "/api/compare?of=gpt-124m@8888&of=gpt-124m@1000&set=fineweb")[2])["compared"]
    assert len(single[0]["rows"]) == 1
