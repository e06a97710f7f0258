"""Tasks, suites and means of checkpoints in a real Chromium: curves by accuracy, a suite and its members, the items."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import pytest
from sqlalchemy import insert, update

from tests.browser.pixels import COLOURED
from tests.support.database import Database
from tests.support.task_rows import item_scores, task_result
from tests.support.training import Training, healthy
from tests.support.waiting import wait_until
from watcher.domain.timestamps import iso
from watcher.store import schema

pytestmark = pytest.mark.browser
TASKS = ("hellaswag", "core/copa", "core/piqa")
STEPS = range(100, 700, 100)
ITEMS = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    """A loss set, a task and a suite of two on six checkpoints; means of three end at the last four of them.

    At step s, s / 50 of 40 items are right, of a mean one more; core/piqa has two fewer. Length-normalised twice as
    many are right. The gold answers' nats fall with the step, and each item goes up and down for itself.
    """
    database = Database(tmp_path_factory.mktemp("tasks") / "t.db")
    database.run()
    database.eval_sets("gpt", {name: f"sha256:{name}" for name in ("val", *TASKS)})
    with database.store.write() as tx:
        tx.execute(update(schema.eval_sets).where(schema.eval_sets.c.name.like("core/%")).values(suite="core"))
    for step in STEPS:
        newest = database.checkpoint(step, digest=f"sha256:gpt-{step}")
        _results(database, step, step // 50)
        if step >= 300:
            path = f"step_{step}.pt#mean3"
            digest = f"sha256:mean-{step}"
            mean = database.checkpoint(step, path=path, digest=digest, weights="mean3")
            of_mean = {"newest_id": newest, "path": path, "digest": digest, "checkpoint_id": mean}
            with database.store.write() as tx:
                said = {"run": "gpt", "spec": "mean3", "weights": "mean3", "state": "final", "at": iso(1.0)}
                tx.execute(insert(schema.averages).values(**said, **of_mean))
            _results(database, step, step // 50 + 1, checkpoint=path, checkpoint_digest=digest, weights="mean3")
    yield healthy(database)
    database.close()


def _results(database: Database, step: int, right: int, **of: str) -> None:
    database.result(step, 4 - step / 1000, **of)
    for name in TASKS:
        some = right - 2 * (name == "core/piqa")
        correct, norm = ([1] * each + [0] * (ITEMS - each) for each in (some, 2 * some))
        scores = item_scores(correct, gold_nats(step), norm)
        task_result(database, step, scores, eval_set=name, **of)


def gold_nats(step: int) -> list[float]:
    return [2.0 - step * 0.0006 + 0.2 * ((item * 7 + step // 100 * 3) % 5 - 2) for item in range(ITEMS)]


def panel(name: str) -> str:
    return f'.panel[data-metric="accuracy"][data-set="{name}"]'


def test_the_metric_accuracy_draws_each_task_with_a_curve_of_its_checkpoints_and_one_of_its_means(page, url):
    page.goto(url)
    page.locator('.panel[data-metric="loss"][data-set="val"][data-points]').wait_for()
    page.get_by_label("accuracy", exact=True).check(force=True)
    for name in TASKS:
        shown = page.locator(panel(name))
        shown.scroll_into_view_if_needed()
        page.locator(f"{panel(name)}[data-points]").wait_for()
        assert (shown.get_attribute("data-curves"), shown.get_attribute("data-points")) == ("2", "10")  # 6 and 4
        wait_until(lambda name=name: page.evaluate(COLOURED, f"{panel(name)} canvas") > 300, 20)
    assert page.locator('.panel[data-metric="accuracy"][data-set="val"]').count() == 0  # a loss set has none
    tile = page.locator(".tile").first.inner_text().split("\n")
    assert tile[:2] == ["last evaluated: accuracy", "0.2750"]  # core/piqa of the last mean: 11 of 40


def test_the_page_of_a_checkpoint_shows_the_suite_with_its_members_and_the_way_to_the_items(page, url, made):
    page.goto(f"{url}/checkpoints")
    page.get_by_role("link", name="step_600.pt", exact=True).click()
    suite = page.locator("#suites")
    assert suite.locator("h3").inner_text() == "core"
    members = [row.split("\t") for row in suite.locator("tbody tr").all_inner_texts()]
    assert [(row[0], row[1].split()[0]) for row in members] == [("copa", "0.3000"), ("piqa", "0.2500")]
    errors = [math.sqrt(share * (1 - share) / (ITEMS - 1)) / 0.75 for share in (0.3, 0.25)]
    words = suite.locator("p").inner_text()
    assert words.startswith(f"{(0.05 / 0.75 + 0) / 2:.4f} ± {math.hypot(*errors) / 2:.4f} (standard error): mean")
    suite.get_by_role("link", name="copa").click()
    assert page.url.endswith(page.locator("h3", has_text="core/copa").get_attribute("id"))
    page.get_by_role("link", name="items with the model's choices").first.click()
    assert page.locator("tbody tr").count() == ITEMS


def test_the_page_of_a_mean_says_its_weights_and_has_its_own_suite(page, url):
    page.goto(f"{url}/checkpoints")
    page.get_by_role("link", name="step_600.pt#mean3", exact=True).click()
    assert page.locator("dt", has_text="weights").locator("+ dd").inner_text() == "mean3"
    assert page.locator("#suites tbody tr").first.inner_text().split()[:2] == ["copa", "0.3250"]  # 13 of 40


def walked(page, box: str) -> list[str]:
    """What the panel says at each point of its first curve, read with the keyboard."""
    page.locator(f"{box} .plot").focus()
    page.keyboard.press("Escape")
    words = []
    for _ in STEPS:
        page.keyboard.press("ArrowRight")
        words.append(page.locator(f"{box} .status").inner_text())
    return words


def test_the_ring_stands_at_the_best_within_noise_of_each_metric_by_its_own_direction_and_error(page, url):
    page.goto(f"{url}/?m=accuracy,accuracy_norm,bits_per_byte,loss&set=hellaswag")
    worse = {  # p of the paired difference to the best one, step 600, by hand
        "accuracy": lambda step: 2 * 0.5 ** ((600 - step) // 50),  # McNemar: all flips go one way
        "accuracy_norm": lambda step: 2 * 0.5 ** ((600 - step) // 25),
        "bits_per_byte": lambda step: 0.01 if significant_at_95(gold_nats(step), gold_nats(600)) else 0.5,
    }
    right = {key: next(step for step in STEPS if step == 600 or p(step) >= 0.05) for key, p in worse.items()}
    assert right == {"accuracy": 400, "accuracy_norm": 500, "bits_per_byte": right["bits_per_byte"]}
    for metric, best in right.items():
        box = f'.panel[data-metric="{metric}"][data-set="hellaswag"]'
        page.locator(box).scroll_into_view_if_needed()
        page.locator(f"{box}[data-points]").wait_for()
        wait_until(lambda box=box: any("best within noise" in words for words in walked(page, box)), 20)
        marked = [step for step, words in zip(STEPS, walked(page, box), strict=True) if "best within noise" in words]
        assert marked == [best], metric
    page.goto(f"{url}/?m=accuracy_norm&set=hellaswag")
    row = page.locator("#run-rows tr")
    wait_until(lambda: row.get_attribute("data-best") == "0.5", 10)  # 20 of 40 at step 500
    words = row.locator("td").nth(3).locator("a").get_attribute("title")
    assert "the highest accuracy_norm is 0.6000 at step 600" in words and "equals it within noise is step 500" in words


def test_a_band_lies_within_its_panel(page, url):
    """No pixel of the band touches the upper or lower edge of the plot, which the card's colour surrounds."""
    page.goto(f"{url}/?m=accuracy&set=hellaswag")
    box = panel("hellaswag")
    page.locator(box).scroll_into_view_if_needed()
    page.locator(f"{box}[data-points]").wait_for()
    edges = """(selector) => {
      const canvas = document.querySelector(`${selector} canvas`), over = document.querySelector(`${selector} .u-over`);
      const look = (y) => canvas.getContext("2d").getImageData(over.offsetLeft, y, over.clientWidth, 1).data;
      const tinted = (data) => data.some((value, at) => at % 4 === 0 && data[at + 3] && data[at + 2] - value > 12);
      const top = over.offsetTop, bottom = over.offsetTop + over.clientHeight;
      return [top + 2, (top + bottom) / 2, bottom - 3].map((y) => tinted(look(Math.round(y))));
    }"""
    wait_until(lambda: page.evaluate(edges, box)[1], 10)
    assert page.evaluate(edges, box) == [False, True, False]


def significant_at_95(values: list[float], others: list[float]) -> bool:
    differences = [(value - other) / (math.log(2) * 8) for value, other in zip(values, others, strict=True)]
    t = statistics.mean(differences) / (statistics.stdev(differences) / math.sqrt(ITEMS))
    return abs(t) > 2.0227  # the quantile of Student's t with 39 degrees of freedom


def test_a_suite_has_a_curve_of_its_mean_on_every_axis_and_a_point_leads_to_its_checkpoint(page, url):
    page.goto(url)
    page.locator('.panel[data-metric="loss"][data-set="val"][data-points]').wait_for()
    page.get_by_label("mean accuracy above guessing of a suite").check(force=True)
    box = '.panel[data-metric="suite"][data-set="core"]'
    page.locator(box).scroll_into_view_if_needed()
    page.locator(f'{box}[data-points="10"]').wait_for()  # 6 of single checkpoints, 4 of means
    words = walked(page, box)
    above = [((step // 50) / ITEMS - 0.25 + (step // 50 - 2) / ITEMS - 0.25) / 2 / 0.75 for step in STEPS]
    assert [float(each.split(": ")[1].split(",")[0]) for each in words] == [round(value, 4) for value in above]
    page.get_by_label("training hours").check(force=True)
    wait_until(lambda: page.locator(box).get_attribute("data-points") == "10", 10)
    page.locator(f"{box} .plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url("**/checkpoints/*")
    assert page.locator("h1").inner_text().startswith("step_100.pt")
