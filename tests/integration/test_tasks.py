"""Tasks with real processes: eval with nothing configured, a watched folder with a loss set, a task and a suite."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from evalcore.data.tokenizers import build_tokenizer
from tests.support.checkpoints import save_nanogpt
from tests.support.daemon import Site, wait_until
from tests.support.tasks import rows_of, write_rows, write_tokenised

SIZES = {"vocab_size": 512, "block_size": 128}
WIDE = 24  # items of the task, and of each member of the suite


def bundle(folder: Path) -> Path:
    (folder / "eval_data").mkdir(parents=True)
    listed = ["icl_tasks:"]
    for label, kind in (("copa", "multiple_choice"), ("jeopardy", "language_modeling")):
        write_rows(folder / "eval_data" / f"{label}.jsonl", rows_of(kind, WIDE))
        listed += [f"- label: {label}", f"  dataset_uri: {label}.jsonl", "  num_fewshot: [0]"]
        listed += [f"  icl_task_type: {kind}"]
    (folder / "core.yaml").write_text("\n".join(listed) + "\n")
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\ncopa,50\njeopardy,0\n")
    return folder


def site_with_tasks(root: Path) -> Site:
    site = Site(root, fake=False, run={"name": "gpt"})
    items = write_rows(root / "hellaswag_val.jsonl", rows_of("hellaswag", WIDE))
    sections = f'\n[[eval]]\nname = "hellaswag"\ndata = "{items}"\ntokenizer = "bytes"\n'
    sections += f'[[suite]]\nname = "core"\ndata = "{bundle(root / "eval_bundle")}"\ntokenizer = "bytes"\n'
    sections += f'[[alert]]\non = ["best"]\neval_set = "hellaswag"\nbest_link = "{root / "best.pt"}"\n'
    sections += f'[[sink]]\nkind = "prometheus"\npath = "{root / "metrics.prom"}"\n'
    sections += f'[[sink]]\nkind = "jsonl"\npath = "{root / "rows.jsonl"}"\n'
    site.config.write_text(sections + site.config.read_text())  # the task is evaluated first
    for step in (100, 200):
        save_nanogpt(site.folder / f"ckpt_{step}.pt", step=step, seed=step, **SIZES)
    return site


def as_json(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_of_items_is_evaluated_with_nothing_configured(tmp_path: Path) -> None:
    save_nanogpt(tmp_path / "ckpt.pt", **SIZES)
    rows = rows_of("hellaswag", WIDE)
    items = write_rows(tmp_path / "hellaswag_val.jsonl", rows)
    site = Site(tmp_path / "site", fake=False)
    flags = ("--data", items, "--tokenizer", "bytes", "--db", str(site.database))
    (row,) = as_json(site.cli("eval", str(tmp_path / "ckpt.pt"), *flags, "--json"))
    assert (row["eval_set"], row["task"], row["items"]) == ("hellaswag_val", "hellaswag", WIDE)
    assert (row["random_baseline"], row["ppl"], row["stride"], row["finite"]) == (0.25, None, None, 1)
    listed = as_json(site.cli("results", "--items", "--db", str(site.database), "--json"))
    assert [item["item"] for item in listed] == list(range(1, WIDE + 1))
    assert row["accuracy"] == sum(item["correct"] for item in listed) / WIDE
    assert row["accuracy_norm"] == sum(item["correct_norm"] for item in listed) / WIDE
    for item in listed:  # the choice with the highest log-probability, that is the fewest nats
        assert item["chosen"] == min(range(4), key=item["choice_nats"].__getitem__)
        assert item["correct"] == int(item["chosen"] == item["gold"])
        ending = rows[item["item"] - 1]["endings"][item["chosen"]].strip().replace(" [title]", ". ").replace("  ", " ")
        assert item["chosen_text"] == ending


def test_items_in_every_container_and_as_tokens_are_evaluated_by_the_command_line(tmp_path: Path) -> None:
    """One file as JSON lines, compressed in two ways, as Parquet, and as llm.c's tokens of it, in one call."""
    rows = [{**row, "label": int(row["label"])} for row in rows_of("hellaswag", WIDE)]
    plain = Path(write_rows(tmp_path / "plain.jsonl", rows))
    (tmp_path / "gzipped.jsonl.gz").write_bytes(gzip.compress(plain.read_bytes()))
    with pyarrow.output_stream(str(tmp_path / "packed.jsonl.zst"), compression="zstd") as file:
        file.write(plain.read_bytes())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "table.parquet")
    write_tokenised(tmp_path / "tokens.bin", rows, build_tokenizer("bytes"))
    names = ["plain.jsonl", "gzipped.jsonl.gz", "packed.jsonl.zst", "table.parquet", "tokens.bin"]
    save_nanogpt(tmp_path / "ckpt.pt", **SIZES)
    site = Site(tmp_path / "site", fake=False)
    data = [flag for name in names for flag in ("--data", str(tmp_path / name))]
    flags = ("--scoring", "nanogpt", "--tokenizer", "bytes", "--db", str(site.database))
    found = as_json(site.cli("eval", str(tmp_path / "ckpt.pt"), *data, *flags, "--json"))
    assert len(found) == 5 and len({row["eval_digest"] for row in found}) == 5
    assert [row["task"] for row in found].count("hellaswag") == 4 and found[-1]["task"] == "tokens"
    for column in ("items", "accuracy", "accuracy_norm", "loss", "bits_per_byte", "tokens"):
        assert len({row[column] for row in found}) == 1, column
    assert found[0]["items"] == WIDE


def test_a_killed_task_gives_one_row_and_a_changed_file_only_its_own_cells(tmp_path: Path) -> None:
    site = site_with_tasks(tmp_path)
    try:
        site.start(CKPTWATCH_WORKER_FAILPOINT="mid_eval:hang")
        running = """SELECT e.name FROM attempts a JOIN jobs j ON j.id = a.job_id
                     JOIN eval_sets e ON e.id = j.eval_set_id WHERE a.started_at IS NOT NULL"""
        assert wait_until(lambda: site.query(running), within_s=60) == [("hellaswag",)]
        site.kill()
        first = site.once()
        assert first.returncode == 0, first.stderr
        cells = site.query("SELECT step, eval_set, count(*), count(accuracy) FROM results GROUP BY step, eval_set")
        names = {"core/copa": 1, "core/jeopardy": 1, "hellaswag": 1, "val": 0}
        assert cells == [(step, name, 1, scored) for step in (100, 200) for name, scored in names.items()]
        assert site.query("SELECT count(*) FROM task_items") == [(6,)]
        assert site.query("SELECT count(*) FROM windows") == [(2,)]
        best = site.query(
            "SELECT checkpoint, accuracy FROM results WHERE eval_set = 'hellaswag' ORDER BY accuracy DESC, step LIMIT 1"
        )[0]
        assert (tmp_path / "best.pt").resolve() == (site.folder / best[0]).resolve()
        lines = (tmp_path / "metrics.prom").read_text().splitlines()
        assert f'ckptwatch_best_accuracy{{run="gpt",eval_set="hellaswag"}} {best[1]}' in lines
        sent = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        of_tasks = {(row["step"], row["eval_set"]): row["accuracy"] for row in sent if row.get("task")}
        found = site.query("SELECT step, eval_set, accuracy FROM results WHERE task IS NOT NULL")
        assert of_tasks == {(step, name): accuracy for step, name, accuracy in found}
        by_hand = "SELECT avg((accuracy - random_baseline) / (1 - random_baseline)) FROM results WHERE step = 200"
        (mean,) = site.query(f"{by_hand} AND eval_set LIKE 'core/%'")[0]
        assert site.query("SELECT value, members, expected FROM suites WHERE step = 200") == [(mean, 2, 2)]
        assert f"core {mean:.4f} ±" in site.cli("results").stderr
        compared = as_json(site.cli("compare", "100", "200", "--json"))
        accuracy = next(one for one in compared if (one["eval_set"], one["metric"]) == ("hellaswag", "accuracy"))
        assert accuracy["method"] == "McNemar" and 0 <= accuracy["p"] <= 1
        flipped = as_json(site.cli("results", "--between", "100", "200", "--eval-set", "hellaswag", "--json"))
        assert len(flipped) == accuracy["gained"] + accuracy["lost"]

        write_rows(tmp_path / "hellaswag_val.jsonl", rows_of("hellaswag", WIDE, seed=1))
        assert site.once().returncode == 0
        again = site.query("SELECT eval_set, count(*) FROM results GROUP BY eval_set")
        assert again == [("core/copa", 2), ("core/jeopardy", 2), ("hellaswag", 4), ("val", 2)]
        assert site.query("SELECT count(DISTINCT eval_digest) FROM results WHERE eval_set = 'hellaswag'") == [(2,)]
    finally:
        site.end()
