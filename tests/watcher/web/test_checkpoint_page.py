"""The page of one checkpoint: windows, positions, items of a task, and a command that reproduces the number."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import insert, update

from evalcore.messages import EvalSetSpec, to_json
from evalcore.spikes import Spike, SpikeDocument, spikes_text
from evalcore.tasks.item_scores import ItemScores, pack
from evalcore.tasks.spec import TaskSpec, task_spec
from tests.support.database import Database
from tests.support.training import Training, healthy
from tests.watcher.web.test_pages import get
from watcher.cli import main, root
from watcher.log import Log
from watcher.pipeline.dashboard import start_server
from watcher.settings.load import load_settings
from watcher.state.folder import StateFolder
from watcher.store import schema
from watcher.store.migrate import open_for_reading
from watcher.store.read.results import result_rows
from watcher.web.reproduce import ModelFlags, command
from watcher.web.small_plot import plot
from watcher.web.window_spikes import of_windows


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Iterator[Training]:
    database = Database(tmp_path_factory.mktemp("checkpoint") / "c.db")
    database.run()
    database.eval_set()
    database.eval_set(name="quiz", digest="sha256:22")
    database.checkpoint(100, digest="sha256:gpt-100")
    nats = [float(20 + place) for place in range(8)]
    number = database.result(100, None, windows=[*nats[:3], 90.0, *nats[4:]], targets=[10] * 8)
    positions = {"position_nats": zlib.compress(array("d", [50.0, 30.0, 20.0]).tobytes())}
    positions |= {"position_targets": zlib.compress(array("I", [10, 10, 10]).tobytes())}
    task = database.result(100, 1.5, eval_set="quiz", task="sciq", items=3, accuracy=2 / 3, stride=None, ppl=None)
    scores = ItemScores(
        *(array("I", [0, 1, 2]), array("H", [1, 0, 1]), array("H", [1, 1, 1]), array("H", [1, 0, 1])),
        *(array("B", [1, 0, 1]), array("B", [1, 1, 1]), array("H", [2, 2, 2]), array("d", [1.0, 2.0, 3.0])),
        *(array("I", [1, 1, 1]), array("I", [4, 4, 4]), array("d", [5, 1, 2, 1.5, 9, 3])),
    )
    with database.store.write() as tx:
        tx.execute(update(schema.windows).where(schema.windows.c.result_id == number).values(**positions))
        tx.execute(insert(schema.task_items).values(result_id=task, scores=pack(scores)))
    yield healthy(database)
    database.close()


def test_the_loss_of_each_window_and_position_is_drawn_and_the_highest_windows_are_named(url):
    result = next(r for r in json.loads(get(f"{url}/api/checkpoints/1")[2])["results"] if r["eval_set"] == "val")
    assert (result["windows"]["low"], result["windows"]["high"], result["windows"]["count"]) == (2.0, 9.0, 8)
    first = result["spikes"][0]
    assert (first["window"], first["loss"], first["first"], first["last"]) == (3, 9.0, 32, 41)  # token 1 is no target
    assert (
        first["documents"] is None
        and "not recorded: the result is of an earlier version" in get(f"{url}/checkpoints/1")[2]
    )
    assert (result["positions"]["high"], result["positions"]["low"]) == (5.0, 2.0)
    page = get(f"{url}/checkpoints/1")[2]
    assert page.count("<polyline") == 2 and 'aria-label="Loss at each position in the window: 3 values' in page


def test_a_suite_stands_with_its_members_its_mean_and_its_standard_error(url, made):
    database = made.database
    database.eval_sets("gpt", {"core/piqa": "sha256:31", "core/copa": "sha256:32"})
    with database.store.write() as tx:
        tx.execute(update(schema.eval_sets).where(schema.eval_sets.c.name.like("core/%")).values(suite="core"))
    number = database.checkpoint(400, digest="sha256:gpt-400")
    facts = {"items": 64, "random_baseline": 0.5, "stride": None, "ppl": None}
    database.result(400, 2.0, eval_set="core/piqa", task="piqa", accuracy=0.625, accuracy_stderr=0.06, **facts)
    [suite] = json.loads(get(f"{url}/api/checkpoints/{number}")[2])["suites"]
    assert (suite["value"], suite["stderr"], suite["done"]) == (None, None, 1)
    text = get(f"{url}/checkpoints/{number}")[2]
    assert "1 of 2 tasks are evaluated: no mean yet" in text and "not evaluated yet" in text
    database.result(400, 2.0, eval_set="core/copa", task="copa", accuracy=0.75, accuracy_stderr=0.08, **facts)
    [suite] = json.loads(get(f"{url}/api/checkpoints/{number}")[2])["suites"]
    assert (suite["value"], suite["stderr"]) == (0.375, pytest.approx(0.1))  # (0.25 + 0.5) / 2, hypot(0.12, 0.16) / 2
    text = get(f"{url}/checkpoints/{number}")[2]
    assert "± 0.1000 (standard error)</span>: mean accuracy above chance of 2 tasks" in text and ">piqa</a>" in text
    assert "Suites" not in get(f"{url}/checkpoints/1")[2]


def test_a_spike_shows_its_documents_and_its_text_and_a_window_that_is_not_finite_is_named(url, made):
    number = made.database.checkpoint(300, digest="sha256:gpt-300")
    nan = float("nan")
    result = made.database.result(300, 2.0, windows=[20.0, 90.0, nan], targets=[10, 10, 10])
    documents = (SpikeDocument(7, 4, 6, 70.0), SpikeDocument(8, 0, 4, 20.0))
    spikes = (
        Spike(2, 21, 10, nan, None, 21, 10, nan),
        Spike(1, 11, 10, 90.0, 2, 12, 3, 60.0, documents, "<b>the rare\n word</b>"),
    )
    with made.database.store.write() as tx:
        tx.execute(
            update(schema.windows)
            .where(schema.windows.c.result_id == result)
            .values(spikes=zlib.compress(spikes_text(spikes).encode()))
        )
    twin = json.loads(get(f"{url}/api/checkpoints/{number}")[2])["results"][0]
    assert (twin["windows"]["missing"], twin["windows"]["high"], twin["spikes"][0]["loss"]) == (1, 9.0, None)
    assert twin["spikes"][1]["documents"] == [
        {"document": 7, "first": 5, "last": 10, "loss": pytest.approx(70 / 6)},
        {"document": 8, "first": 1, "last": 4, "loss": 5.0},
    ]
    page = get(f"{url}/checkpoints/{number}")[2]
    assert "document 7, its tokens 5 to 10: 11.6667" in page and "tokens 13 to 15, 20.0000 each" in page
    assert "&lt;b&gt;the rare" in page and "<b>the rare" not in page
    assert f'href="#w{result}-1"' in page and f'id="w{result}-1"' in page and "1 not finite" in page


def test_what_was_not_recorded_is_called_so(url, made):
    number = made.database.checkpoint(200, digest="sha256:gpt-200")
    made.database.result(200, 2.5)
    page = get(f"{url}/checkpoints/{number}")[2]
    assert page.count("not recorded") == 2 and "<polyline" not in page


def test_the_items_of_a_task_are_shown_with_the_models_choice(url):
    page = get(f"{url}/checkpoints/1")[2]
    link = re.search(r'href="(/results/\d+/items)"', page)[1]
    twin = json.loads(get(f"{url}/api{link}")[2])
    assert [(row["gold"], row["chosen"], row["correct"]) for row in twin["items"]] == [
        (1, 1, True), (0, 1, False), (1, 1, True)]  # fmt: skip
    assert twin["items"][1]["choice_nats"] == [2.0, 1.5]
    wrong = json.loads(get(f"{url}/api{link}?only=wrong")[2])
    assert [row["item"] for row in wrong["items"]] == [1] and (wrong["right"], wrong["count"]) == (2, 3)
    assert get(f"{url}{link}?only=wrong&page=99")[0] == 200
    assert get(f"{url}/results/999/items")[0] == 404


def test_the_best_point_of_a_task_is_marked_where_accuracies_are_drawn(url):
    get(f"{url}/api/bests?m=loss,accuracy")
    marked = {}
    for name, metric in (("quiz", "accuracy"), ("quiz", "loss"), ("val", "loss"), ("val", "ppl")):
        (curve,) = json.loads(get(f"{url}/api/curves?set={name}&metric={metric}")[2])["series"]
        marked[name, metric] = curve["best"] in curve["id"]
    assert marked == {
        ("quiz", "accuracy"): True,
        ("quiz", "loss"): True,  # the lowest loss of gold answers, whatever the accuracy
        ("val", "loss"): True,
        ("val", "ppl"): True,
    }


def test_a_small_plot_keeps_the_spike_of_a_hundred_thousand_windows():
    values = [2.0 + (place % 7) / 100 for place in range(100_000)]
    values[77_777] = 11.0
    drawn = plot(values)
    assert len(drawn["points"].split()) <= 600 and drawn["high"] == 11.0
    heights = [float(point.split(",")[1]) for point in drawn["points"].split()]
    assert min(heights) == 4.0 and heights.count(4.0) == 1
    assert of_windows(values, [8] * 100_000)[0]["window"] == 77_777


FACTORY = """
import torch
class Tiny(torch.nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.table = torch.nn.Embedding(vocab, vocab)
    def forward(self, tokens):
        return self.table(tokens)
def build(config, state):
    model = Tiny(config["vocab_size"])
    model.load_state_dict(state)
    return model
"""


@pytest.mark.parametrize(
    "task",
    [
        task_spec("hellaswag", scoring="nanogpt", max_items=9),
        task_spec("arc_easy", bos=True),
        task_spec("arc_easy", bos=False),
        TaskSpec(
            "copa", "multiple_choice", "core", random_baseline=0.5
        ),  # a task of a bundle has its label as its name
        TaskSpec("arc_easy", "multiple_choice", "core", shots=10, delimiter="\nAnswer: ", random_baseline=0.25),
        task_spec("tokens"),
    ],
)
def test_the_command_of_a_task_has_flags_that_make_the_same_task(task):
    spec = EvalSetSpec("items", ("/data/items.x",), tokenizer="bytes", data_digest="d", task=task)
    given = command({"dir": "/out", "path": "c.pt"}, to_json(spec), ModelFlags())
    printed = subprocess.run(["bash", "-c", f"printf '%s\\0' {given}"], capture_output=True, text=True, check=True)
    words = printed.stdout.split("\0")[2:-1]
    flags = root.get_command(None, "eval").make_context("eval", words).params
    if task.rendering == "tokens":
        assert flags["task"] is None  # the file is recognised
        return
    fields = {name: flags[name] for name in ("scoring", "shots", "delimiter", "bos", "max_items")}
    made = task_spec(flags["task"], **fields, random_baseline=task.random_baseline)
    assert made.declared() == task.declared()


def test_the_command_on_the_page_reproduces_a_number_of_two_shards_a_raw_format_and_a_factory(
    tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    chance, vocab = np.random.default_rng(3), 23
    for name in ("b", "a"):  # this order: the shards are one stream
        chance.integers(0, vocab, 700).astype("<u2").tofile(tmp_path / f"{name}.dat")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "tiny_factory.py").write_text(FACTORY)
    table = torch.from_numpy(chance.normal(size=(vocab, vocab)).astype("float32"))
    (tmp_path / "out").mkdir()
    torch.save(
        {"model": {"table.weight": table}, "config": {"vocab_size": vocab}, "step": 7}, tmp_path / "out" / "c.pt"
    )
    (tmp_path / "ckptwatch.toml").write_text(
        '[[run]]\ndir = "out"\n[model]\nfactory = "tiny_factory:build"\npython_path = ["code"]\n'
        '[[eval]]\nname = "val"\ndata = ["b.dat", "a.dat"]\nformat = "raw"\ntoken_dtype = "uint16"\nseq_len = 16\n'
        '[launch]\ndevice = "cpu"\nbatch_size = 8\n'
    )
    assert main(["-c", "ckptwatch.toml", "eval", "out/c.pt"]) == 0
    settings = load_settings(tmp_path / "ckptwatch.toml")
    address, stop = start_server(
        settings.web.model_copy(update={"port": 0}),
        "ckptwatch.db",
        StateFolder.beside("ckptwatch.db"),
        Log(-1),
        settings.model,
    )
    try:
        command = json.loads(get(f"{address}api/checkpoints/1")[2])["results"][0]["reproduce"]
    finally:
        stop()
    (tmp_path / "ckptwatch.toml").unlink()  # the command stands by itself
    store = open_for_reading("ckptwatch.db")
    (first,) = result_rows(store)
    store.close()
    words = shlex.split(command)
    assert words[:2] == ["ckptwatch", "eval"]
    capsys.readouterr()
    assert main([*words[1:], "--json"]) == 0
    (again,) = json.loads(capsys.readouterr().out)
    same = (
        "loss",
        "tokens",
        "seq_len",
        "stride",
        "eval_digest",
        "model_digest",
        "content_digest",
        "dtype",
        "batch_size",
    )
    assert {key: again[key] for key in same} == {key: first[key] for key in same}
    assert first["tokens"] == 1399  # both shards: one target less than tokens
