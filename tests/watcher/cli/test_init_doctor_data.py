"""`init`, `doctor`, `data`: what they find on a real disk, and the file that init writes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.support.checkpoints import save_rosellm
from watcher.settings.load import load_settings
from watcher.setup.discover import look_at
from watcher.setup.software import release_of


def a_run(tmp_path):
    (tmp_path / "out").mkdir()
    for step in (10, 20):
        save_rosellm(tmp_path / "out" / f"step_{step}.pt", step=step)
    (tmp_path / "out" / "optimizer.pt").write_bytes(b"momenta")
    np.save(tmp_path / "val.npy", np.arange(3000, dtype=np.uint16) % 60)


def test_init_prefers_a_token_stream_to_the_items_of_a_task_and_writes_those_as_a_task(ckptwatch, tmp_path):
    (tmp_path / "hellaswag_val.jsonl").write_text('{"ctx": "A", "endings": ["a", "b", "c", "d"], "label": 1}\n')
    (tmp_path / "out").mkdir()
    said = ckptwatch("init", "out", "--yes")
    assert said.status == 0, said.err
    text = (tmp_path / "ckptwatch.toml").read_text()
    assert 'data = "hellaswag_val.jsonl"' in text and "max_items" in text and "max_tokens" not in text
    (tmp_path / "val.txt").write_text("some text to validate on")
    assert ckptwatch("init", "out", "--yes", "--force").status == 0
    settings = load_settings(tmp_path / "ckptwatch.toml")
    assert [Path(section.data[0]).name for section in settings.eval] == ["val.txt"]


def test_init_finds_checkpoints_and_data_and_writes_a_file_that_loads(ckptwatch, tmp_path):
    a_run(tmp_path)
    said = ckptwatch("init", "out", "--yes")
    assert said.status == 0
    assert "2 checkpoint(s)" in said.err
    assert "1 ignored: built-in ignore list" in said.err
    assert "rosellm, 8,096 parameters, step 20 (payload:step)" in said.err
    assert "3,000 tokens" in said.err
    settings = load_settings(tmp_path / "ckptwatch.toml")
    assert settings.run[0].dir == tmp_path / "out"
    assert settings.eval[0].data == (str(tmp_path / "val.npy"),)
    assert "# seq_len = 32 " in (tmp_path / "ckptwatch.toml").read_text()


def test_init_says_paths_without_dots_and_the_command_that_reads_its_file(ckptwatch, tmp_path):
    a_run(tmp_path)
    said = ckptwatch("init", "out/../out", "--yes", "-c", "other.toml")
    assert (said.status, ".." in said.err + said.out) == (0, False)
    assert "next:  ckptwatch run -c other.toml        (preview: ckptwatch run -c other.toml --dry-run)" in said.err
    assert 'dir = "out"' in (tmp_path / "other.toml").read_text()


def test_init_overwrites_nothing_without_force(ckptwatch, tmp_path):
    a_run(tmp_path)
    (tmp_path / "ckptwatch.toml").write_text("mine")
    said = ckptwatch("init", "out", "--yes")
    assert said.status == 2
    assert (tmp_path / "ckptwatch.toml").read_text() == "mine"
    assert ckptwatch("init", "out", "--yes", "--force").status == 0
    assert load_settings(tmp_path / "ckptwatch.toml").run[0].dir == tmp_path / "out"


def test_init_finds_checkpoints_in_subfolders_and_names_sets_apart(ckptwatch, tmp_path):
    (tmp_path / "out" / "seed-one").mkdir(parents=True)
    save_rosellm(tmp_path / "out" / "seed-one" / "model_5.pt", step=5)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "val.txt").write_text("some text to measure on\n" * 50)
    said = ckptwatch("init", "out", "--data", "a/val.txt", "--data", "b/val.txt", "--json", "--yes")
    assert said.json["found"]["include"] == ["**/*.pt", "**/*.pth", "**/*.ckpt", "**/*.safetensors", "**/*/"]
    assert [one["kind"] for one in said.json["data"]] == ["text", "text"]
    settings = load_settings(tmp_path / "ckptwatch.toml")
    assert [entry.name for entry in settings.eval] == ["val", "val-2"]
    assert settings.eval[0].tokenizer == "gpt2"


@pytest.mark.parametrize(
    "place",
    ["data/openwebtext/val.bin", "edu_fineweb10B/edufineweb_val_000000.npy", "fineweb10B/fineweb_val_000000.bin"],
)
def test_init_proposes_the_validation_data_where_trainers_keep_it(tmp_path, place):
    from watcher.setup.discover import data_nearby, usual_places

    (tmp_path / "out").mkdir()
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(400))
    (file.parent / "train.bin").write_bytes(bytes(400))
    assert data_nearby(usual_places(tmp_path / "out")) == [file]


def test_init_before_training_began_writes_what_is_known(ckptwatch, tmp_path):
    said = ckptwatch("init", 'a "quoted" # folder', "--yes")
    assert said.status == 0
    assert "does not exist yet" in said.err
    assert "no validation data found" in said.err
    assert load_settings(tmp_path / "ckptwatch.toml").run[0].dir == tmp_path / 'a "quoted" # folder'
    assert ckptwatch("init", "out", "--data", "none.npy", "--force").status == 4


def test_a_half_written_newest_file_does_not_hide_the_one_before(tmp_path):
    a_run(tmp_path)
    whole = (tmp_path / "out" / "step_20.pt").read_bytes()
    (tmp_path / "out" / "step_30.pt").write_bytes(whole[: len(whole) // 2])
    found = look_at(tmp_path / "out")
    assert found.newest == "step_30.pt"
    assert found.readable is not None
    assert found.readable["checkpoint"] in ("step_10.pt", "step_20.pt")
    assert found.trouble is not None


def test_doctor_finds_this_machine_fit_and_reports_every_subject(ckptwatch, tmp_path):
    a_run(tmp_path)
    ckptwatch("init", "out", "--yes")
    said = ckptwatch("doctor", "--json")
    checks = {finding["check"]: finding for finding in said.json}
    assert {
        "python",
        "torch",
        "torchrun",
        "sqlite",
        "filesystem",
        "disk",
        "inotify",
        "clock",
        "devices",
        "extras",
    } <= set(checks)
    assert checks[f"run {tmp_path.name}"]["level"] in ("ok", "note")
    assert checks["eval val"]["level"] == "ok"
    assert all(finding["fix"] for finding in said.json if finding["level"] != "ok")
    assert said.status == (7 if any(finding["level"] == "problem" for finding in said.json) else 0)


def test_doctor_names_missing_data_a_future_file_and_a_python_that_cannot_run(ckptwatch, tmp_path):
    a_run(tmp_path)
    ckptwatch("init", "out", "--yes")
    (tmp_path / "val.npy").unlink()
    os.utime(tmp_path / "out" / "step_10.pt", (4e9, 4e9))
    with open(tmp_path / "ckptwatch.toml", "a") as file:
        file.write('\n[[sink]]\nkind = "jsonl"\npath = "x.jsonl"\n')
    said = ckptwatch("doctor")
    assert said.status == 7
    assert "val.npy does not exist" in said.out
    assert "in the future" in said.out
    assert "-> synchronise the clocks" in said.out


def test_what_is_there_and_not_taken_is_told_by_every_verb(ckptwatch, tmp_path):
    """Folders that `include` leaves out, and files of an ending that it does not have."""
    for folder in ("out/checkpoint-10", "out/checkpoint-20", "out/other"):
        (tmp_path / folder).mkdir(parents=True)
    for folder in ("out/checkpoint-10", "out/checkpoint-20"):
        (tmp_path / folder / "model.safetensors").touch()
    for n in range(5):
        (tmp_path / "out" / f"model_{n}.bin").touch()
    np.save(tmp_path / "val.npy", np.arange(3000, dtype=np.uint16))
    (tmp_path / "ckptwatch.toml").write_text(
        "[[run]]\ndir = 'out'\nname = 'out'\ninclude = ['*.pt']\n[[eval]]\ndata = 'val.npy'\n[store]\nurl = 'r.db'\n"
    )
    bins, folders = "5 .bin files here; `include` takes none", "2 Hugging Face folders here; `include` takes none"
    notes = [one["words"] for one in ckptwatch("doctor", "--json").json if one["check"] == "run out"]
    assert any(bins in words for words in notes) and any(folders in words for words in notes)
    plan = ckptwatch("run", "--dry-run").out
    assert bins in plan and folders in plan
    command = [sys.executable, "-m", "watcher.cli", "run", "--once", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 4
    assert done.stderr.count(bins) == 2 and done.stderr.count(folders) == 2  # in the log, and in the error
    assert "--include GLOB" in done.stderr
    said = ckptwatch("-c", "other.toml", "init", "out", "--yes")
    assert bins in said.err and "2 checkpoint(s)" in said.err  # the default takes the folders


def test_doctor_says_where_the_ranks_of_a_tokenizer_are_not_on_this_machine(ckptwatch, tmp_path, monkeypatch):
    a_run(tmp_path)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path / "none"))
    (tmp_path / "val.txt").write_text("hello")
    ranks = (tmp_path / "own.tiktoken").resolve()
    sets = [f'[[eval]]\nname = "{name}"\ndata = "val.txt"\n' for name in ("a", "b", "c", "d")]
    sets[1] += 'tokenizer = "bytes"\n'
    sets[2] += f"tokenizer = {json.dumps(str(ranks))}\n"
    sets[3] += 'tokenizer = "gpt5000"\n'
    (tmp_path / "ckptwatch.toml").write_text("\n".join(['[[run]]\ndir = "out"\n', *sets]))
    found = [one for one in ckptwatch("doctor", "--json").json if one["check"] == "tokenizer"]
    assert [one["level"] for one in found] == ["note", "problem"]
    assert found[0]["words"].startswith("the ranks of gpt2 are not on this machine")
    assert found[1]["words"] == "tokenizer 'gpt5000' is not known"
    assert "TIKTOKEN_CACHE_DIR" in found[0]["fix"] and ".tiktoken" in found[0]["fix"]
    assert not (tmp_path / "none").exists()


def test_doctor_looks_for_sbatch_not_for_gpus_where_jobs_are_slurms(ckptwatch, tmp_path, monkeypatch):
    a_run(tmp_path)
    ckptwatch("init", "out", "--yes")
    settings = tmp_path / "ckptwatch.toml"
    settings.write_text(settings.read_text().replace("[launch]\n", '[launch]\nexecutor = "slurm"\n'))
    monkeypatch.setenv("PATH", str(tmp_path))
    said = ckptwatch("doctor")
    assert said.status == 7
    assert "sbatch is not on PATH" in said.out
    (tmp_path / "sbatch").touch(mode=0o755)
    assert f"jobs run in Slurm: {tmp_path / 'sbatch'}" in ckptwatch("doctor").out.replace("\n", " ")


def test_doctor_loads_no_torch(tmp_path):
    program = (
        "import sys; from watcher.cli import main; main(['doctor', '--json']);"
        "sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("2.13.0+cpu", (2, 13, 0)), ("2.9.1", (2, 9, 1)), ("2.10.0a0+git1", (2, 10, 0)), ("3", (3,))],
)
def test_versions_are_compared_by_their_numbers(version, numbers):
    assert release_of(version) == numbers


def test_data_sniff_tells_format_tokens_and_ids(ckptwatch, tmp_path):
    a_run(tmp_path)
    (tmp_path / "val.txt").write_text("hello\n")
    said = ckptwatch("data", "sniff", "val.npy", "val.txt", "--json")
    assert said.status == 0
    array, text = said.json
    assert (array["kind"], array["dtype"], array["tokens"], array["largest_id"]) == ("npy", "uint16", 3000, 59)
    assert (text["kind"], text["tokens"]) == ("text", None)
    assert "0 to 59" in ckptwatch("data", "sniff", "val.*").out


def test_data_stats_counts_targets_and_windows(ckptwatch, tmp_path):
    a_run(tmp_path)
    (tmp_path / "val.txt").write_text("0123456789" * 10)
    one = ckptwatch("data", "stats", "val.txt", "--tokenizer", "bytes", "--seq-len", 32, "--json").json[0]
    assert one["targets"] == one["tokens"] - 1
    assert one["windows"] == -(-one["targets"] // 32)


def test_data_that_is_missing_is_4_and_that_is_no_data_is_8(ckptwatch, tmp_path):
    assert ckptwatch("data", "sniff", "none.npy").status == 4
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    assert ckptwatch("data", "sniff", "picture.png").status == 0
    said = ckptwatch("data", "stats", "picture.png")
    assert said.status == 8
    assert "cannot be evaluated on" in said.err


@pytest.mark.slow
def test_init_then_run_then_results_is_all_it_takes(ckptwatch, tmp_path):
    a_run(tmp_path)
    shutil.rmtree(tmp_path / "home", ignore_errors=True)
    assert ckptwatch("init", "out", "--yes").status == 0
    command = [sys.executable, "-m", "watcher.cli", "run", "--once", "--settle-s", "0.2", "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=150)
    assert done.returncode == 0, done.stderr
    rows = ckptwatch("results", "--json").json
    assert [(row["step"], row["tokens"]) for row in rows] == [(10, 2999), (20, 2999)]
    compared = ckptwatch("compare", 10, 20, "--json").json[0]
    assert (compared["method"], compared["windows"]) == ("paired", 94)
    assert compared["verdict"] == "step 10 and step 20 are the same on every window"


def test_init_names_the_run_as_run_without_a_file_does(ckptwatch, tmp_path):
    """Another name is another run: every checkpoint would be evaluated again."""
    a_run(tmp_path)
    flags = ("--dir", "out", "--data", "val.npy", "--dry-run", "--json")
    without_file = ckptwatch("run", *flags)
    assert ckptwatch("init", "out", "--yes").status == 0
    named = load_settings(tmp_path / "ckptwatch.toml").run[0].name
    assert (named, without_file.status) == (tmp_path.name, 0)
    assert {row["run"] for row in without_file.json} == {named}
