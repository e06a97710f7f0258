"""Tasks in results, compare and plot: accuracies with their errors, items, flipped items, the aggregate of a suite."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import pytest
from sqlalchemy import update

from evalcore.data_digest import digest_files
from evalcore.messages import EvalSetSpec, to_json
from evalcore.tasks.items import rendered_items
from evalcore.tasks.spec import task_spec
from tests.support.database import Database
from tests.support.task_rows import item_scores, task_result
from watcher.cli.item_texts import texts_of
from watcher.store.schema import eval_sets


@pytest.fixture
def database(tmp_path):
    """A loss and a task at steps 100 and 200; at 200 ten items more are right and two that were right are not."""
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set(name="val")
    database.eval_set(name="hellaswag", digest="sha256:22")
    for step, loss in ((100, 3.0), (200, 2.5)):
        database.result(step, loss, bits_per_byte=1.0)
    task_result(database, 100, item_scores([1] * 10 + [0] * 90, [2.0] * 100))
    task_result(database, 200, item_scores([0] * 2 + [1] * 18 + [0] * 80, [1.0 + k / 100 for k in range(100)]))
    yield database
    database.close()


def test_a_table_with_tasks_has_their_accuracy_with_its_error(ckptwatch, database):
    text = ckptwatch("results", "--db", database.path).out
    head, first = text.splitlines()[0], next(line for line in text.splitlines() if "hellaswag" in line)
    assert "accuracy" in head and "acc norm" in head and "ppl" in head
    assert "0.1000 ±0.0302" in first  # sqrt(0.1 · 0.9 / 99)
    only = ckptwatch("results", "--eval-set", "hellaswag", "--db", database.path).out
    assert "ppl" not in only.splitlines()[0] and "accuracy" in only.splitlines()[0]
    losses = ckptwatch("results", "--eval-set", "val", "--db", database.path).out
    assert "accuracy" not in losses


def test_compare_tests_a_task_by_mcnemar_and_the_paired_t(ckptwatch, database):
    found = ckptwatch("compare", 100, 200, "--json", "--db", database.path).json
    assert [(one["eval_set"], one["metric"]) for one in found] == [
        ("hellaswag", "accuracy"), ("hellaswag", "accuracy_norm"), ("hellaswag", "bits_per_byte"), ("val", "loss"),
    ]  # fmt: skip
    accuracy, _, bits, _ = found
    assert (accuracy["gained"], accuracy["lost"], accuracy["windows"]) == (10, 2, 100)
    assert accuracy["p"] == pytest.approx(158 / 4096)
    assert (accuracy["a"]["value"], accuracy["b"]["value"]) == (0.1, 0.18)
    assert accuracy["verdict"] == "step 200 is better"
    assert bits["method"] == "paired" and bits["difference"] < 0 and bits["gained"] is None
    said = ckptwatch("compare", 100, 200, "--db", database.path)
    assert "hellaswag by accuracy: step 200 is better" in said.out
    assert "+10 -2" in said.out
    assert "ckptwatch results --between 100 200" in said.err


def test_the_items_that_flipped_are_listed_with_what_each_chose(ckptwatch, database):
    said = ckptwatch("results", "--between", 100, 200, "--format", "json", "--db", database.path)
    rows = said.json
    assert [(row["item"], row["correct_at"]) for row in rows] == [
        (1, "A"),
        (2, "A"),
        *((n, "B") for n in range(11, 21)),
    ]
    assert (rows[0]["a"]["chosen"], rows[0]["b"]["chosen"]) == (1, 2)
    assert "12 of 100 items flipped: 10 correct only at B, 2 only at A (McNemar's exact p = 0.0386)" in said.err
    table = ckptwatch("results", "--between", 100, 200, "--db", database.path).out
    assert len(table.splitlines()) == 13


def test_the_items_of_the_newest_result_or_of_a_step_are_listed(ckptwatch, database):
    rows = ckptwatch("results", "--items", "--json", "--db", database.path).json
    assert len(rows) == 100 and {row["step"] for row in rows} == {200}
    text = ckptwatch("results", "--items", "--step", 100, "--format", "csv", "--db", database.path).out
    parsed = list(csv.DictReader(io.StringIO(text)))
    assert (parsed[0]["step"], parsed[0]["correct"], parsed[10]["correct"]) == ("100", "1", "0")
    assert parsed[10]["choice_nats"] == "9.0 2.0 0.5 9.75"
    assert ckptwatch("results", "--items", "--eval-set", "val", "--db", database.path).status == 4


def with_items(database, tmp_path, rows, task="hellaswag"):
    """The set `hellaswag` of the database with a file of these items behind it."""
    path = str(tmp_path / "items.jsonl")
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = EvalSetSpec("hellaswag", (path,), data_digest=digest_files([path]), task=task_spec(task))
    with database.store.write() as tx:
        tx.execute(update(eval_sets).where(eval_sets.c.name == "hellaswag").values(spec=to_json(spec)))
    return path


def test_items_and_flips_show_the_text_and_the_model_s_choice(ckptwatch, database, tmp_path):
    rows = [
        {"activity_label": "Cat", "ctx_a": f"{'long ' * 60}item {n}.", "ctx_b": "", "ctx": "",
         "endings": [f"ending {n} {k} \x1b[31m" for k in range(4)], "label": 1}
        for n in range(100)
    ]  # fmt: skip
    path = with_items(database, tmp_path, rows)
    items = ckptwatch("results", "--items", "--json", "--db", database.path).json
    first = items[0]  # a wrong one chose 2
    assert first["gold_text"] == "ending 0 1 \x1b[31m" and first["chosen_text"] == "ending 0 2 \x1b[31m"
    assert first["context"].startswith("...") and first["context"].endswith("long item 0.")
    assert items[5]["chosen_text"] == items[5]["gold_text"]
    table = ckptwatch("results", "--items", "--db", database.path).out
    assert "ending 7 1" in table and "item 7." in table and "\x1b" not in table
    flips = ckptwatch("results", "--between", 100, 200, "--json", "--db", database.path).json
    assert (flips[0]["gold_text"], flips[0]["a_text"], flips[0]["b_text"]) == tuple(
        f"ending 0 {choice} \x1b[31m" for choice in (1, 1, 2)
    )
    csv_rows = ckptwatch("results", "--between", 100, 200, "--format", "csv", "--db", database.path).out
    assert next(csv.DictReader(io.StringIO(csv_rows)))["b_text"].startswith("ending 0 2")

    with open(path, "a") as file:  # another file: its texts need not be those of the result
        file.write("\n")
    said = ckptwatch("results", "--items", "--json", "--db", database.path)
    assert said.json[0]["gold_text"] is None and said.json[0]["chosen"] == 2
    assert f"items without their text: {path} has changed since" in said.err
    (tmp_path / "items.jsonl").unlink()
    said = ckptwatch("results", "--items", "--json", "--db", database.path)
    assert said.json[0]["context"] is None and "cannot be read: No such file" in said.err


@pytest.mark.parametrize(
    ("task", "row", "gold", "chosen", "correct", "texts"),
    [
        ("winogrande", {"sentence": "the cat saw _ run.", "option1": "a", "option2": "b", "answer": "2"}, 1, 0, False,
         ("... run.", "the cat saw b", "the cat saw a")),
        ("schema", {"context_options": ["a cup is not in the box, for the cup", "a cup is not in the box, for the box"],
                    "continuation": "is big", "gold": 1}, 1, 0, False, ("... is big", "... box", "... cup")),
        ("lambada", {"text": "the cat sat"}, 0, 0, True, ("the cat", "sat", "sat")),
        ("lambada", {"text": "the cat sat"}, 0, 0, False, ("the cat", "sat", None)),
    ],
)  # fmt: skip
def test_the_text_of_a_schema_and_of_a_last_word(task, row, gold, chosen, correct, texts):
    item = next(rendered_items(task_spec(task), [row]))
    assert tuple(texts_of(item, gold, chosen, correct).values()) == texts


def test_compare_prints_the_first_flipped_items_with_their_text_and_json_has_all(ckptwatch, database, tmp_path):
    rows = [
        {"activity_label": "Cat", "ctx_a": f"item {n}.", "ctx_b": "", "ctx": "",
         "endings": [f"ending {n} {k}" for k in range(4)], "label": 1}
        for n in range(100)
    ]  # fmt: skip
    with_items(database, tmp_path, rows)
    said = ckptwatch(
        "compare", 100, 200, "--db", database.path
    )  # 158 of 4096 splits of 12 flips are as uneven as 10 : 2
    table = said.out.split("hellaswag: 12 of 100 items flipped (McNemar's exact p 0.039)\n")[1].splitlines()[1:]
    assert [line.split()[:2] for line in table] == [["1", "A"], ["2", "A"], ["11", "B"], ["12", "B"], ["13", "B"]]
    assert "item 0." in table[0] and "ending 0 1" in table[0] and "ending 0 2" in table[0]
    command = said.err.split("and 7 more:  ckptwatch ")[1].splitlines()[0]
    assert command == f"results --between 100 200 --db {database.path} --eval-set hellaswag"
    assert len(ckptwatch(*command.split(), "--json").json) == 12
    found = ckptwatch("compare", 100, 200, "--json", "--db", database.path).json
    assert [one["flipped"] and len(one["flipped"]) for one in found] == [12, 12, None, None]
    first = found[0]["flipped"][0]
    assert (first["item"], first["correct_at"], first["gold_text"]) == (1, "A", "ending 0 1")
    assert (first["a_text"], first["b_text"]) == ("ending 0 1", "ending 0 2")

    (tmp_path / "items.jsonl").unlink()  # the items are known by number alone
    said = ckptwatch("compare", 100, 200, "--db", database.path)
    assert "12 of 100 items flipped" in said.out and "ending" not in said.out
    assert "items without their text" in said.err


def test_best_goes_by_each_metrics_own_direction(ckptwatch, database):
    said = ckptwatch("results", "--best", "--json", "--db", database.path)
    assert {(row["eval_set"], row["step"]) for row in said.json} == {("hellaswag", 200), ("val", 200)}
    assert "hellaswag: the highest accuracy is " in said.err and " at step 200; no earlier" in said.err
    bits = ckptwatch("results", "--best", "--metric", "bits_per_byte", "--json", "--db", database.path)
    assert "gpt / hellaswag: the lowest bits_per_byte is " in bits.err and " at step 200; " in bits.err


def test_curves_are_drawn_of_one_metric(ckptwatch, database):
    curves = ckptwatch("plot", "--json", "--db", database.path).json
    assert [curve["eval_set"] for curve in curves] == ["val"]
    accuracy = ckptwatch("plot", "--metric", "accuracy", "--json", "--db", database.path).json
    assert [(curve["eval_set"], curve["best_step"]) for curve in accuracy] == [("hellaswag", 200)]
    assert [point["accuracy"] for point in accuracy[0]["points"]] == [0.1, 0.18]
    text = ckptwatch("plot", "--metric", "accuracy_centered", "--db", database.path).out
    assert "accuracy above guessing" in text
    assert ckptwatch("plot", "--metric", "ppl_item", "--db", database.path).status == 4


def test_the_aggregate_of_a_suite_is_told_with_what_is_missing(ckptwatch, database):
    database.eval_set(name="core/copa", digest="sha256:33")
    with database.store.write() as tx:
        tx.execute(update(eval_sets).where(eval_sets.c.name == "hellaswag").values(suite="core"))
        tx.execute(update(eval_sets).where(eval_sets.c.name == "core/copa").values(suite="core"))
    task_result(database, 100, item_scores([1] * 4 + [0] * 4, [1.0] * 8), eval_set="core/copa", random_baseline=0.25)
    said = ckptwatch("results", "--db", database.path).err
    value = ((0.1 - 0.25) / 0.75 + (0.5 - 0.25) / 0.75) / 2
    error = math.hypot(math.sqrt(0.09 / 99) / 0.75, math.sqrt(0.25 / 7) / 0.75) / 2  # of 100 items and of 8
    assert f"gpt: core {value:.4f} ±{error:.4f} at step 100 (mean accuracy above chance of 2 tasks)" in said
    assert "gpt: core at step 200: 1 of 2 tasks; missing: copa" in said
