"""Tables, runs, comparisons, notes and one checkpoint in a real Chromium, used as people use them."""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import update

from evalcore.spikes import Spike, SpikeDocument, spikes_text
from tests.browser.test_access import RULES, checked, violations  # noqa: F401  (checked is a fixture)
from tests.support.many_runs import many_runs
from tests.support.task_rows import item_scores, task_result
from tests.support.training import Training, dashboard, say_healthy
from tests.support.waiting import wait_until
from watcher.cli import main
from watcher.log import Log
from watcher.pipeline.isolation import Isolation
from watcher.pipeline.orders import apply_inbox
from watcher.store import schema
from watcher.store.read.dashboard import Pages

pytestmark = pytest.mark.browser
TOKEN = "0123456789abcdef"
A, B, C = "gpt-a-000", "gpt-b-001", "gpt-lr-002"
TABLES = {
    "/runs": ("runs",),
    "/checkpoints": ("checkpoints",),
    "/results": ("results",),
    "/queue": ("queued", "failed", "files"),
    "/data": ("sets",),
    "/system": ("sinks", "launches", "events"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    """240 results; two jobs of each state, two launches, events, sinks and rejected files; a task; one spike."""
    one = many_runs(tmp_path_factory.mktemp("tables"), runs=6, sets=2, points=20, windows=True)
    say_healthy(one.state)
    database, at = one.database, "2026-01-0{}T00:00:00.000000Z"
    for number in (1, 2):
        checkpoint = database.checkpoint(90_000 + number, A, f"later_{number}.pt")
        database.job(checkpoint, "queued", A, "fineweb")
        failed = database.job(checkpoint, "failed", A, "wikitext", reason=f"reason {number}")
        database.launch(failed, Path(f"/launches/{number}"), f"launch-{number}", open_=False)
        database._insert(schema.events, at=at.format(number), name=f"event_{number}", run=A, detail='{"text": "words"}')
        row = {"run": A, "path": f"bad_{number}.pt", "kind": "corrupt", "reason": "cut off", "at": at.format(number)}
        database._insert(schema.candidates, final=1, size_bytes=number, mtime_ns=number, ctime_ns=number, **row)
        sent = {"sink": f"sink_{number}", "kind": "result", "subject_id": number, "state": "done"}
        database._insert(schema.exports, enqueued_at=at.format(1), done_at=at.format(number), **sent)
    database.eval_set(A, "quiz", digest="sha256:quiz")
    quiz = {"checkpoint": "step_000500.pt", "checkpoint_digest": f"sha256:{A}-500"}
    task_result(database, 500, item_scores([1, 0, 1], [1.0, 2.0, 3.0]), eval_set="quiz", run=A, **quiz)
    spike = Spike(5, 641, 128, 900.0, 1, 650, 3, 60.0, (SpikeDocument(7, 4, 60, 900.0),), "the rare word")
    with database.store.write() as tx:
        kept = zlib.compress(spikes_text((spike,)).encode())
        tx.execute(update(schema.windows).where(schema.windows.c.result_id == 1).values(spikes=kept))
    yield one
    one.database.close()


@pytest.fixture(scope="module")
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture(scope="module")
def url(made, log) -> Iterator[str]:
    with dashboard(made, Log(stream=log), edit=True, edit_token=TOKEN) as address:
        yield address


def column(page, key: str, head: str) -> list[str]:
    heads = [text.strip(" ▲▼") for text in page.locator(f"#{key} thead th").all_inner_texts()]
    return page.locator(f"#{key}-rows tr td:nth-child({heads.index(head) + 1})").all_inner_texts()


def address(page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


@pytest.mark.parametrize("path", TABLES)
def test_every_table_of_a_page_is_sorted_filtered_and_given_as_csv_and_json(page, url, path):
    for key in TABLES[path]:
        page.goto(url + path)
        head = page.locator(f"#{key} a.sort").last
        head.click()
        assert page.locator(f"#{key} th[aria-sort]").inner_text() == page.locator(f"#{key} a.sort").last.inner_text()
        words = {"checkpoints": "step_000500", "results": "step_000500", "runs": B, "sets": "quiz"}.get(key, "2")
        page.locator(f"#{key} input[type=search]").fill(words)
        page.keyboard.press("Enter")
        page.wait_for_url("**q=*")
        shown = int(page.locator(f"#{key}-total").inner_text().split()[0])
        assert page.locator(f"#{key}-rows tr").count() == shown > 0 and f"{key}.sort" in address(page)
        with page.expect_download() as download:
            page.locator(f"#{key} header").get_by_role("link", name="CSV").click()
        rows = list(csv.DictReader(Path(download.value.path()).read_text().splitlines()))
        page.locator(f"#{key} header").get_by_role("link", name="JSON").click()
        same = json.loads(page.locator("pre").inner_text())[key]
        assert len(rows) == len(same) == shown
        page.goto(f"{url}{path}?{key}.q=no-such-word")
        assert "Nothing matches" in page.locator(f"#{key}").inner_text()


def test_pages_of_a_table_keep_order_and_words_and_the_back_key_returns(page, url):
    page.goto(f"{url}/results")
    page.locator("#results input[type=search]").fill("wikitext")
    page.keyboard.press("Enter")
    page.locator("#results-total", has_text="120 found").wait_for()
    page.get_by_role("link", name="loss ± SE").click()
    page.locator('#results th[aria-sort="descending"]').wait_for()
    first = [float(text.split("±")[0]) for text in column(page, "results", "loss ± SE")]
    page.get_by_role("link", name="next").click()
    page.get_by_text("page 2 of 3").wait_for()
    second = [float(text.split("±")[0]) for text in column(page, "results", "loss ± SE")]
    assert len(first) == len(second) == 50 and first + second == sorted(first + second, reverse=True)
    assert set(column(page, "results", "set")) == {"wikitext"} and address(page)["results.page"] == ["2"]
    page.go_back()
    page.get_by_text("page 1 of 3").wait_for()


def test_a_table_is_sorted_and_left_with_the_keyboard_alone(page, url):
    page.goto(f"{url}/checkpoints")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "sort":
            break
    assert page.evaluate("document.activeElement.textContent") == "step"
    page.keyboard.press("Enter")
    page.wait_for_url("**checkpoints.sort=step**")
    assert column(page, "checkpoints", "step")[0] == "90,002"


def test_ticked_runs_are_compared_and_the_link_shows_another_person_the_same(page, url, browser):
    page.goto(f"{url}/runs")
    page.get_by_role("button", name="compare").click()
    assert "Name two or more runs" in page.locator("#compared").inner_text()
    page.go_back()
    for name in (A, B, C):
        page.get_by_label(f"compare {name}").check(force=True)
    page.get_by_role("button", name="compare").click()
    page.locator("#configs").wait_for()
    assert page.locator("h2").all_inner_texts()[:2] == [f"{B} against {A}", f"{C} against {A}"]
    differs = page.locator("#configs tr.differs th").all_inner_texts()
    assert "≠ n_layer" in differs and not any("vocab_size" in each for each in differs)
    assert page.locator("#compared .pairs").first.locator("td", has_text="paired").count() == 40
    context = browser.new_context()
    other = context.new_page()
    other.goto(page.url)
    assert other.locator("#compared").inner_text() == page.locator("#compared").inner_text()
    context.close()


def test_two_steps_are_compared_with_the_keyboard_and_a_step_that_is_not_finite_is_named(page, url):
    page.goto(f"{url}/compare")
    page.get_by_label("first").focus()
    page.keyboard.type("gpt-deep-004@5000")  # its loss on fineweb is NaN there
    page.keyboard.press("Tab")
    page.keyboard.type(f"{B}@5000")
    page.keyboard.press("Enter")
    rows = page.locator("#compared .pairs tbody tr")
    rows.first.wait_for()
    assert rows.count() == 2
    assert "no value" in rows.first.inner_text() and "is not finite" in rows.first.inner_text()
    assert address(page)["of"][:2] == ["gpt-deep-004@5000", f"{B}@5000"]
    page.get_by_label("first").fill("gpt-aa-000")
    page.keyboard.press("Enter")
    assert "did you mean 'gpt-a-000'" in page.get_by_role("alert").inner_text()


def test_a_note_and_a_tag_are_written_and_removed_with_the_token_and_the_page_follows_by_itself(page, url, made):
    page.goto(f"{url}/runs/1")
    page.get_by_text("live", exact=True).wait_for()
    for kind, text in (("tag", "baseline"), ("note", "<b>warm-up</b> too short")):
        page.get_by_label("kind").select_option(kind)
        page.get_by_label("text", exact=True).fill(text)
        page.get_by_label("edit token").fill(TOKEN)
        page.get_by_role("button", name="save").click()
        page.get_by_text("live", exact=True).wait_for()
    assert "baseline" not in page.locator("#annotation-list").inner_text()  # the page itself writes nothing
    apply_inbox(made.database.store, made.state, Log(-1), Isolation(Log(-1)), 0.0)
    page.locator("#annotation-list", has_text="<b>warm-up</b> too short").wait_for()
    page.goto(f"{url}/runs")
    assert "baseline" in page.locator('tr[data-key="1"]').inner_text()
    for text in ("baseline", "<b>warm-up</b> too short"):  # and removed again
        page.goto(f"{url}/runs/1")
        page.get_by_text("live", exact=True).wait_for()
        page.get_by_label("edit token").fill(TOKEN)
        page.get_by_role("button", name=f"remove {text}").click()
        page.get_by_text("live", exact=True).wait_for()
        apply_inbox(made.database.store, made.state, Log(-1), Isolation(Log(-1)), 0.0)
        wait_until(lambda text=text: text not in page.locator("#annotation-list").inner_text(), 10)
    assert "None yet" in page.locator("#annotation-list").inner_text()
    page.goto(f"{url}/runs")
    assert "baseline" not in page.locator('tr[data-key="1"]').inner_text()


def test_a_note_with_another_token_is_refused_in_words(page, url, made):
    page.goto(f"{url}/checkpoints/1")
    page.get_by_label("text", exact=True).fill("x")
    page.get_by_label("edit token").fill("not the token")
    page.get_by_role("button", name="save").click()
    page.wait_for_url("**/annotations")
    assert "token" in page.locator("#main").inner_text() and not list(made.state.inbox.iterdir())
    page.complaints.clear()  # the 403


def test_a_run_has_one_colour_on_every_page(page, url):
    seen = set()
    for path, where in (("/", 'tr[data-key="3"] svg'), ("/runs", 'tr[data-key="3"] svg'), ("/runs/3", "h1 svg")):
        page.goto(url + path)
        seen.add(page.locator(where).first.evaluate("svg => getComputedStyle(svg.querySelector('line')).stroke"))
    assert len(seen) == 1 and seen != {"none"}


def test_the_mark_of_a_spike_leads_to_its_documents_and_a_task_to_the_models_choices(page, url):
    page.goto(f"{url}/checkpoints/1")
    names = page.locator("#results h3").all_inner_texts()
    assert [name.split()[0] for name in names] == ["fineweb", "quiz", "wikitext"]
    mark = page.get_by_role("link", name="window 5, 7.0312: its documents")
    mark.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**#w1-5")
    spike = page.locator("#w1-5")
    assert "document 7, its tokens 5 to 64: 15.0000" in spike.inner_text() and "the rare word" in spike.inner_text()
    assert spike.evaluate("box => box.getBoundingClientRect().top < innerHeight")
    page.get_by_role("link", name="items with the model's choices").click()
    page.wait_for_url("**/items")
    assert page.locator("tbody tr").count() == 3
    page.get_by_role("link", name="wrong only").click()
    page.wait_for_url("**only=wrong")
    cells = page.locator("tbody tr td").all_inner_texts()
    assert cells[:4] == ["1", "wrong", "1", "2"]


def test_a_checkpoint_shows_every_number_that_the_command_line_prints_and_how_to_get_it_again(page, url, made, capsys):
    assert main(["results", "--run", A, "--step", "500:500", "--json", "--db", made.url]) == 0
    rows = {row["eval_set"]: row for row in json.loads(capsys.readouterr().out)}
    page.goto(f"{url}/checkpoints/1")
    shown = page.locator("#results").inner_text()
    for name in ("fineweb", "wikitext"):
        row = rows[name]
        for words in (
            f"{row['loss']:.4f} ±{row['loss_stderr']:.4f} nats per token",
            f"perplexity\n{row['ppl']:.3f}\nbits per byte\n{row['bits_per_byte']:.4f}",
            f"{row['tokens']:,} tokens, {row['bytes']:,} bytes; windows of {row['seq_len']}",
            f"{row['dtype']}, {row['device']}, {row['world_size']} process, batch {row['batch_size']}",
            f"torch {row['torch_version']}, evalcore {row['evalcore_version']}",
            f"{row['load_seconds']:g} s to load, {row['eval_seconds']:g} s to evaluate",
            f"({row['tokens_per_second']:,.0f} tokens/s), peak memory {row['peak_memory_bytes'] / 2**30:.1f} GiB",
            f"{row['evaluated_at'][:19].replace('T', ' ')} UTC",
            f"--data /data/{name}.npy",
        ):
            assert words in shown, words
    quiz = rows["quiz"]
    words = f"{quiz['accuracy']:.4f} ± {quiz['accuracy_stderr']:.4f} (standard error); by guessing 0.250"
    assert words in shown and f"{quiz['items']} items, {quiz['tokens']} tokens of gold answers" in shown


def test_a_task_has_panels_of_its_own_metrics_and_its_bits_per_byte_are_those_of_the_gold_answer(page, url):
    page.goto(f"{url}/?m=accuracy,bits_per_byte")
    page.locator('.panel[data-metric="accuracy"][data-set="quiz"][data-points="1"]').wait_for()
    labels = page.locator('.panel[data-set="quiz"] header .soft').all_inner_texts()
    assert labels == ["accuracy", "bits per byte of the gold answer"]
    assert page.locator('.panel[data-metric="accuracy"]').count() == 1  # the other sets are no tasks
    chosen = page.locator("#metrics input:checked").evaluate_all("boxes => boxes.map((box) => box.value)")
    assert chosen == ["bits_per_byte", "accuracy"]


def test_an_error_of_a_page_is_shown_with_the_reference_of_the_log_and_the_next_page_works(page, url, log, monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("no such column")

    page.goto(f"{url}/data")
    with monkeypatch.context() as patch:
        patch.setattr(Pages, "running", broken)
        page.get_by_role("link", name="Queue").click()
        page.wait_for_url("**/queue")
        shown = page.locator("body").inner_text()
        reference = re.search("500: this page failed: KeyError in /queue; reference ([0-9a-f]{8}) in the log", shown)
    assert reference and f"page /queue failed: KeyError: 'no such column' (reference {reference[1]})" in log.getvalue()
    assert "Traceback (most recent call last)" in log.getvalue() and "in broken" in log.getvalue()
    page.go_back()
    page.get_by_role("link", name="Queue").click()
    page.locator("#queued").wait_for()
    page.complaints.clear()  # the 500


@pytest.mark.parametrize("path", ["/results/241/items", "/?m=accuracy,bits_per_byte,logged", "/compare?of=none&of=1"])
def test_axe_finds_nothing_on_the_items_of_a_task_its_panels_or_a_refused_comparison(checked, url, path):  # noqa: F811
    found = []
    for scheme in ("light", "dark"):
        checked.emulate_media(color_scheme=scheme)
        checked.goto(url + path)
        if path.startswith("/?"):
            checked.locator('.panel[data-metric="accuracy"][data-points]').wait_for()
        found += violations(checked, {"type": "tag", "values": RULES})
    assert not found, "\n".join(found)
