"""`ckptwatch results`: what is printed, in which format, and what is said when nothing is found."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import random
import subprocess
import sys

import pytest

from tests.support.database import Database, small_run
from watcher.store.schema import results


def test_json_is_an_array_of_objects_with_exactly_the_columns_of_the_table(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("results", "--json", "--db", tmp_path / "r.db")
    assert said.status == 0
    assert [row["loss"] for row in said.json] == [3.0, 2.5, 2.2]
    assert all(list(row) == [column.name for column in results.columns] for row in said.json)


def test_a_diverged_result_is_null_in_json_and_said_in_the_table(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, None, note="loss is nan in window 3")
    assert ckptwatch("results", "--json", "--db", tmp_path / "r.db").json[-1]["loss"] is None
    table = ckptwatch("results", "--db", tmp_path / "r.db").out
    assert "not finite" in table
    assert "loss is nan in window 3" in table


def test_a_loss_whose_ppl_overflows_is_shown_without_a_ppl(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, 900.0, note="ppl is above the float range")
    row = ckptwatch("results", "--step", "400", "--json", "--db", tmp_path / "r.db").json[0]
    assert (row["loss"], row["ppl"]) == (900.0, None)


def test_every_format_carries_the_same_rows(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    call = ("results", "--db", tmp_path / "r.db", "--format")
    whole = ckptwatch(*call, "json").json
    assert [json.loads(line) for line in ckptwatch(*call, "jsonl").out.splitlines()] == whole
    table = list(csv.DictReader(io.StringIO(ckptwatch(*call, "csv").out)))
    assert [float(row["loss"]) for row in table] == [3.0, 2.5, 2.2]
    assert list(table[0]) == list(whole[0])
    markdown = ckptwatch(*call, "md").out.splitlines()
    assert len(markdown) == 2 + 3
    assert markdown[2].startswith("| 100 | 3.0000 ±0.0100 |")


def test_a_range_of_steps_has_both_its_ends(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    for text, steps in (("100:200", [100, 200]), ("200:", [200, 300]), (":100", [100]), ("200", [200])):
        said = ckptwatch("results", "--step", text, "--json", "--db", tmp_path / "r.db")
        assert [row["step"] for row in said.json] == steps, text
    said = ckptwatch("results", "--step", "many", "--db", tmp_path / "r.db")
    assert said.status == 2
    assert "1000:2000" in said.err


def test_unknown_names_get_the_nearest_valid_one_and_status_4(ckptwatch, tmp_path):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("results", "--eval-set", "vall", "--db", tmp_path / "r.db")
    assert (said.status, said.out) == (4, "")
    assert "did you mean 'val'?" in said.err
    assert "did you mean 'gpt'?" in ckptwatch("results", "--run", "gtp", "--db", tmp_path / "r.db").err


def test_no_database_is_status_4_with_the_path_and_the_next_command(ckptwatch, tmp_path):
    said = ckptwatch("results", "--db", tmp_path / "none.db")
    assert said.status == 4
    assert str(tmp_path / "none.db") in said.err
    assert "ckptwatch run" in said.err


def test_a_file_of_another_program_is_refused_with_status_7_and_left_alone(ckptwatch, tmp_path):
    (tmp_path / "other.db").write_bytes(b"not a database at all" * 10)
    said = ckptwatch("results", "--db", tmp_path / "other.db")
    assert said.status == 7
    assert (tmp_path / "other.db").read_bytes() == b"not a database at all" * 10


def test_hostile_names_are_escaped_in_the_table(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set()
    database.result(1, 2.0, checkpoint="a\x1b[31mred\n.pt")
    out = ckptwatch("results", "--db", tmp_path / "r.db").out
    assert "\x1b" not in out
    assert "a\\x1b[31mred\\n.pt" in out


def test_older_versions_and_definitions_are_marked_and_never_in_best(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(300, 1.0, checkpoint_digest="sha256:older", superseded=1)
    database.result(300, 0.5, checkpoint_digest="sha256:x", eval_digest="sha256:before")
    said = ckptwatch("results", "--db", tmp_path / "r.db")
    assert "older version" in said.out
    assert said.out.count("another definition of val") == 1
    assert "was redefined" in said.err
    best = ckptwatch("results", "--best", "--json", "--db", tmp_path / "r.db").json
    assert [row["loss"] for row in best] == [2.2]


def test_best_is_the_earliest_within_noise_and_names_the_lowest(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    database.run()
    database.eval_set()
    chance = random.Random(5)
    targets = [64] * 60
    hard = [64 * chance.uniform(1, 5) for _ in targets]
    for step, effect in ((100, 0.4), (200, 0.001), (300, 0.0), (400, 0.3)):
        nats = [h + 64 * (effect + chance.gauss(0, 0.1)) for h in hard]
        database.result(step, None, windows=nats, targets=targets)
    rows = ckptwatch("results", "--json", "--db", tmp_path / "r.db").json
    lowest = min(rows, key=lambda row: row["loss"])
    said = ckptwatch("results", "--best", "--json", "--db", tmp_path / "r.db")
    assert (said.json[0]["step"], lowest["step"]) == (200, 300)
    words = (
        f"the lowest loss is {lowest['loss']:.4f} at step 300; the earliest that equals it within noise is step 200 (+"
    )
    assert f"gpt / val: {words}" in said.err and "over the same windows" in said.err


def test_best_says_how_many_checkpoints_have_the_same_value_and_names_those_without_a_step(ckptwatch, tmp_path):
    database = Database(tmp_path / "r.db")
    for run, losses in (("alone", (3.0, 2.0)), ("equal", (2.0, 2.0, 2.5, 2.0)), ("nameless", (2.0, 3.0))):
        database.run(run)
        database.eval_set(run=run)
        for number, loss in enumerate(losses, 1):
            name = {"checkpoint": f"{number}.pt", "checkpoint_digest": f"sha256:{run}{number}"}
            database.result(None if run == "nameless" else number, loss, run=run, **name)
    assert ckptwatch("results", "--best", "--db", tmp_path / "r.db").err.splitlines() == [
        "alone / val: the lowest loss is 2.0000 at step 2; no earlier checkpoint equals it within noise",
        "equal / val: the lowest loss is 2.0000 at step 1, and at 2 later checkpoints",
        "nameless / val: the lowest loss is 2.0000 at 1.pt; no earlier checkpoint equals it within noise",
    ]


def test_best_tells_the_generalisation_gap_where_a_set_is_named_train(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.eval_set(name="train-part")
    database.result(300, 2.0, eval_set="train-part")
    said = ckptwatch("results", "--best", "--db", tmp_path / "r.db")
    assert "generalisation gap at step 300: +0.2000 ±0.0141 nats (val above train-part)" in said.err


def test_rows_measured_in_different_ways_are_said_to_be(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, 2.0, dtype="bfloat16")
    assert "different dtype: bfloat16, float32" in ckptwatch("results", "--db", tmp_path / "r.db").err


def test_in_a_pipe_the_table_is_plain_aligned_text(tmp_path):
    small_run(tmp_path / "r.db").close()
    command = [sys.executable, "-m", "watcher.cli", "results", "--db", str(tmp_path / "r.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["step", "loss", "ppl", "tokens", "seconds", "checkpoint"]
    assert all(line.isascii() or "±" in line for line in lines)
    assert "\x1b" not in done.stdout
    assert done.stderr == ""


def test_on_a_narrow_terminal_the_table_fits_and_no_color_is_honoured(tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, 2.0, checkpoint="a/very/long/path/" * 8 + "step_400.pt")
    database.close()
    for colour in (False, True):
        environment = {**os.environ, "COLUMNS": "60", "LINES": "24", "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        out = _on_a_terminal(tmp_path, environment if colour else {**environment, "NO_COLOR": "1"})
        assert ("\x1b[" in out) is colour
        if not colour:
            assert max(len(line) for line in out.splitlines()) <= 60
        assert "3.0000 ±0.0100" in out


def test_on_a_very_narrow_terminal_no_column_is_left_out_and_nothing_is_cut(tmp_path):
    database = small_run(tmp_path / "r.db")
    database.run("other")
    database.result(100, 4.5, run="other", note="measured on half of the set")
    database.close()
    said = _on_a_terminal(tmp_path, {**os.environ, "COLUMNS": "44", "LINES": "24", "TERM": "xterm", "NO_COLOR": "1"})
    head, _, first = [line.split() for line in said.splitlines()[:3]]
    assert head[:3] == ["run", "step", "loss"] and first[:4] == ["gpt", "100", "3.0000", "±0.0100"]
    assert max(map(len, said.splitlines())) <= 44
    for shown in ("tokens 1,000", "seconds 2.0", "measured on half of the set", "step_100.pt"):
        assert shown in " ".join(said.split())
    assert "…" not in said


def _on_a_terminal(tmp_path, environment) -> str:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "watcher.cli", "results", "--db", str(tmp_path / "r.db")]
    with subprocess.Popen(command, stdout=theirs, env=environment) as process:
        os.close(theirs)
        out = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            if not chunk:
                break
            out += chunk
        assert process.wait() == 0
    os.close(ours)
    return out.decode()


@pytest.mark.parametrize(
    ("where", "steps"),
    [
        (["step >= 200"], [200, 300]),
        (["loss<2.6 and step != 300"], [200]),
        (["loss < 2.6", "checkpoint like 'step_3%'"], [300]),
        (['eval_set = "val" AND note is null'], [100, 200, 300]),
        (["note IS NOT NULL"], []),
        (["run = 'it''s'"], []),
    ],
)
def test_where_filters_by_columns(ckptwatch, tmp_path, where, steps):
    small_run(tmp_path / "r.db").close()
    given = [word for text in where for word in ("--where", text)]
    said = ckptwatch("results", *given, "--json", "--db", tmp_path / "r.db")
    assert said.status == (0 if steps else 4), said.err
    assert [row["step"] for row in said.json] == steps if steps else "no result matches" in said.err


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("--where", "stepp > 3", "no column 'stepp'"),
        ("--where", "step > x", "step is a number, 'x' is none"),
        ("--where", "step > 1; DROP TABLE results", "'1;' is none"),
        ("--where", "step > 1 or 1 = 1", "joined by `and`"),
        ("--where", "1 = 1", "no column '1'"),
        ("--where", "step", "expected COLUMN OPERATOR VALUE"),
        ("--where", "step > 1 and", "expected COLUMN OPERATOR VALUE at its end"),
        ("--where", "loss in (1, 2)", "expected COLUMN OPERATOR VALUE"),
        ("--sort", "lost", "did you mean loss?"),
    ],
)
def test_a_filter_or_order_that_says_nothing_is_a_usage_error_that_names_it(ckptwatch, tmp_path, flag, text, words):
    small_run(tmp_path / "r.db").close()
    said = ckptwatch("results", flag, text, "--db", tmp_path / "r.db")
    assert (said.status, words in said.err) == (2, True), said.err


def test_sort_and_limit_give_the_first_rows_of_an_order_and_say_how_many_there_are(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    database.result(400, None)
    database.close()
    said = ckptwatch("results", "--sort", "-loss", "--limit", 2, "--json", "--db", tmp_path / "r.db")
    assert [row["step"] for row in said.json] == [100, 200]
    assert "2 of 4 rows" in said.err
    said = ckptwatch("results", "--sort", "loss", "--json", "--db", tmp_path / "r.db")
    assert [row["step"] for row in said.json] == [300, 200, 100, 400]  # NULL is last in either direction
    assert ckptwatch("results", "--best", "--limit", 2, "--db", tmp_path / "r.db").status == 2


def test_a_long_note_of_several_rows_stands_once_below_the_table(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    long = "vocabulary of 50257 padded to 50304 rows: the loss is over all rows"
    for step, note in ((400, f"state dict ema; {long}"), (500, long), (600, "ppl is above the float range")):
        database.result(step, 2.0, note=note)
    for form in ("table", "md"):
        out = ckptwatch("results", "--db", tmp_path / "r.db", "--format", form).out
        assert out.count(long) == 1 and out.rstrip().endswith(f"[1] {long}")
        assert out.count("[1]") == 3 and "state dict ema; [1]" in out and "ppl is above the float range" in out
    only = ckptwatch("results", "--db", tmp_path / "r.db", "--step", "500").out
    assert only.count("[1]") == 2 and only.rstrip().endswith(f"[1] {long}")
    rows = ckptwatch("results", "--db", tmp_path / "r.db", "--json").json
    assert [row["note"] for row in rows][-2:] == [long, "ppl is above the float range"]


def test_a_long_note_of_one_row_leaves_a_piped_table_narrow_and_is_whole_below_it(ckptwatch, tmp_path):
    database = small_run(tmp_path / "r.db")
    long = "short; " + "this key of the configuration is not known: foo = 1, " * 4 + "end"
    database.result(400, 2.0, note=long)
    out = ckptwatch("results", "--db", tmp_path / "r.db").out
    assert max(map(len, out.splitlines())) <= 100
    table, below = out.split("\n\n[1] ")
    assert "short; [1]" in table and f"short; {' '.join(below.split())}" == long
    assert ckptwatch("results", "--db", tmp_path / "r.db", "--json").json[-1]["note"] == long
    assert long in ckptwatch("results", "--db", tmp_path / "r.db", "--format", "csv").out
