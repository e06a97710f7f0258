"""Every command of the how-to pages: run in a folder that has what the page names, or listed with the reason why not.

The shell, its pipes and globs are real. `ckptwatch` is a client of one process that has everything imported
(tests/support/command_server.py); README and tutorial run the installed command and torchrun.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import string
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.checkpoints import save_build_nanogpt, save_nanochat, save_nanogpt
from tests.support.database import Database, small_run
from tests.support.dcp_writer import LLAMA, llama_state
from tests.support.tasks import rows_of, write_rows
from tests.support.waiting import wait_until
from tests.test_docs_commands import ROOT, SQLITE3, blocks

PAGES = ROOT / "docs/how-to"
#: Stands in where the machine has no jq: it shows that its input is JSON.
JQ = "#!{python}\nimport json, sys\nprint(json.load(sys.stdin))\n"
#: page -> beginning of a command -> why no test can run it
NOT_RUN = {
    "docker": {"docker ": "needs Docker and the network; the files are checked by tests/watcher/setup"},
    "postgres": {
        "pip install": "needs the network",
        "createdb": "needs a PostgreSQL server; tests/engines copies to one where there is one",
        "ckptwatch db copy": "needs a PostgreSQL server",
    },
    "queries": {"pip install": "needs the network", "datasette": "is not among the test requirements"},
    "samples": {
        "ckptwatch samples": "needs texts that a daemon stored; tests/integration/test_samples.py lists them",
        'ckptwatch sample out/ckpt.pt --prompt "Once': "GPT-2's ranks are fetched from the network",
    },
    "sinks": {
        "ckptwatch export mlflow": "mlflow takes ten seconds to make its store; tests/watcher/sinks exports to it"
    },
    "systemd": dict.fromkeys(
        ("ckptwatch init", "ckptwatch -c", "systemctl", "loginctl", "python3 -m venv", "cp ", "/opt/"),
        "needs root or a running systemd; tests/watcher/setup checks the units",
    ),
    "tasks": {"torchrun": "two ranks; tests/evalcore/tasks runs the stand-alone command with a suite"},
    "upgrade": {"git pull": "needs a clone with a remote"},
}
#: What a test has to change in a command: a daemon would not end, and GPT-2's ranks are fetched from the network.
CHANGES = (
    (r"^ckptwatch run (?!.*--dry-run)", "ckptwatch run --once --settle-s 0.05 "),
    (r"--scoring nanogpt", "--scoring nanogpt --tokenizer bytes"),
)
#: Exit statuses that the page's own situation gives: no daemon runs, and its machine may lack what `doctor` looks for.
STATUSES = {"ckptwatch status": {10}, "ckptwatch doctor": {0, 7}}


def commands(page: str) -> Iterator[str]:
    """Each command of the page's sh and console blocks, continued lines joined."""
    for mark, body in blocks(PAGES / f"{page}.md"):
        lines = body.replace("\\\n", " ").splitlines()
        if mark.startswith("console"):
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        yield from (line for line in lines if line.strip() and not line.startswith("#"))


def why_not(page: str, command: str) -> str | None:
    return next((why for start, why in NOT_RUN.get(page, {}).items() if command.startswith(start)), None)


def tokens(path: Path, high: int = 60) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.random.default_rng(0).integers(1, high, 300).astype(np.uint16)
    np.save(path, ids) if path.suffix == ".npy" else ids.tofile(path)


def jobs_of_another_run(room: Path) -> Database:
    """Jobs 1 to 12, queued, of a run that no command of the page evaluates."""
    database = Database(room / "ckptwatch.db")
    database.run("earlier", "/training/earlier")
    database.eval_set("earlier")
    for step in range(1, 13):
        database.job(database.checkpoint(step, "earlier"), "queued", "earlier")
    return database


def backfill(room: Path) -> None:
    jobs_of_another_run(room).close()
    tokens(room / "val.npy")
    for step in (1, 2):
        save_nanogpt(room / f"checkpoints/step_{step}.pt", step=step)


def build_nanogpt(room: Path) -> None:
    tokens(room / "edu_fineweb10B/edufineweb_val_000000.npy")
    save_build_nanogpt(room / "log/model_00100.pt", step=100)


def distributed(room: Path) -> None:
    import torch.distributed.checkpoint as dcp

    tokens(room / "val.bin")
    (room / "model.json").write_text(json.dumps({**LLAMA, "max_seq_len": 32}))
    dcp.save({**llama_state(), "train_state": {"step": torch.tensor(500)}}, checkpoint_id=room / "checkpoint/step-500",
             no_dist=True)  # fmt: skip


def huggingface(room: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel

    tokens(room / "val.bin")
    (room / "val.txt").write_text("the harbour is quiet\n" * 20)
    config = GPT2Config(n_layer=1, n_head=2, n_embd=16, n_positions=32, vocab_size=256, bos_token_id=0, eos_token_id=0)
    for step in (500, 1000):
        GPT2LMHeadModel(config).save_pretrained(room / f"out/checkpoint-{step}")
        (room / f"out/checkpoint-{step}/trainer_state.json").write_text(json.dumps({"global_step": step}))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({sign: number for number, sign in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    (room / "other").mkdir()
    tokenizer.save(str(room / "other/tokenizer.json"))


def means(room: Path) -> None:
    database = small_run(room / "ckptwatch.db")
    for step, loss in ((9000, 3.0), (10000, 2.9)):
        mean = {"weights": "mean5", "checkpoint": f"step_{step}.pt#mean5", "checkpoint_digest": f"sha256:mean-{step}"}
        database.result(step, None, windows=[loss * 40, loss * 41], targets=[40, 40])
        database.result(step, None, windows=[loss * 39, loss * 40], targets=[40, 40], **mean)
    database.close()
    tokens(room / "val.bin")
    for step in (8000, 9000, 10000):
        save_nanogpt(room / f"out/ckpt_{step}.pt", step=step, seed=step)


def nanochat(room: Path) -> None:
    import pyarrow
    import pyarrow.parquet
    import tiktoken

    for name in ("base_checkpoints/d12", "base_data_climbmix", "tokenizer", "eval_bundle/eval_data"):
        (room / name).mkdir(parents=True)
    save_nanochat(room / "base_checkpoints/d12", step=500, vocab_size=260, whole=True)
    shard = pyarrow.table({"text": ["the harbour is quiet", "a boat leaves"]})
    pyarrow.parquet.write_table(shard, room / "base_data_climbmix/shard_06542.parquet")
    ranks, special = {bytes([n]): n for n in range(256)}, {"<|bos|>": 256}
    encoding = tiktoken.Encoding("rustbpe", pat_str=r"\w+|\W", mergeable_ranks=ranks, special_tokens=special)
    (room / "tokenizer/tokenizer.pkl").write_bytes(pickle.dumps(encoding))
    write_rows(room / "eval_bundle/eval_data/copa.jsonl", rows_of("multiple_choice", 4))
    (room / "eval_bundle/core.yaml").write_text(
        "icl_tasks:\n- label: copa\n  dataset_uri: copa.jsonl\n  num_fewshot: [0]\n  icl_task_type: multiple_choice\n"
    )
    (room / "eval_bundle/eval_meta_data.csv").write_text("Eval Task,Random baseline\ncopa,50\n")


def nanogpt(room: Path) -> None:
    tokens(room / "data/openwebtext/val.bin")
    save_nanogpt(room / "out/ckpt.pt", step=7)


def own_model(room: Path) -> None:
    (room / "src").mkdir()
    (room / "src/mymodel.py").write_text(next(blocks(PAGES / "own-model.md", "python"))[1])
    scope: dict = {}
    exec((room / "src/mymodel.py").read_text(), scope)
    config = {"vocab_size": 64, "width": 16}
    state = scope["TinyLm"](**config).state_dict()
    torch.save({"model": state, "config": config, "step": 100}, room / "checkpoints/step_100.pt")


def rows(room: Path) -> None:
    small_run(room / "ckptwatch.db").close()


def samples(room: Path) -> None:
    save_nanogpt(room / "out/ckpt.pt", step=7)
    signs = sorted({*string.ascii_letters, *" .,!?:;'&-\n3"})[:64]
    meta = {"vocab_size": 64, "itos": dict(enumerate(signs)), "stoi": {sign: i for i, sign in enumerate(signs)}}
    (room / "data/shakespeare_char").mkdir()
    (room / "data/shakespeare_char/meta.pkl").write_bytes(pickle.dumps(meta))


def tasks(room: Path) -> None:
    database = small_run(room / "ckptwatch.db")
    database.eval_set(name="core/hellaswag_zeroshot", digest="sha256:22")
    database.result(100, 4.0, eval_set="core/hellaswag_zeroshot")
    database.close()
    tokens(room / "edu_fineweb10B/edufineweb_val_000000.npy")
    (room / "hellaswag").mkdir()
    write_rows(room / "hellaswag/hellaswag_val.jsonl", rows_of("hellaswag", 8))
    for step in (1000, 2000, 5000):
        save_build_nanogpt(room / f"log/model_{step:05d}.pt", step=step, seed=step, vocab_size=257, block_size=512)


#: page -> what makes its folder; the pages without are all NOT_RUN or have no command
ROOMS: dict[str, Callable[[Path], None]] = {
    "backfill-and-order": backfill, "build-nanogpt": build_nanogpt, "distributed-checkpoints": distributed,
    "huggingface": huggingface, "means": means, "nanochat": nanochat, "nanogpt": nanogpt, "own-model": own_model,
    "plots": rows, "queries": rows, "samples": samples, "sinks": rows, "tasks": tasks,
    "troubleshooting": rows, "upgrade": rows,
}  # fmt: skip


@pytest.fixture(scope="module")
def shell(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The environment of a shell whose `ckptwatch` is answered by the command server."""
    folder = tmp_path_factory.mktemp("bin")
    for name, program in (("sqlite3", SQLITE3), ("jq", JQ)):
        if shutil.which(name) is None:
            (folder / name).write_text(program.format(python=sys.executable))
            (folder / name).chmod(0o755)
    client = folder / "ckptwatch"
    base = {name: value for name, value in os.environ.items() if not name.startswith("CKPTWATCH_")}
    base |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder), "NO_COLOR": "1"}
    call = [sys.executable, "-m", "tests.support.command_server", str(folder / "socket"), str(client)]
    server = subprocess.Popen(call, cwd=ROOT, env=base)
    wait_until(lambda: os.access(client, os.X_OK) or server.poll() is not None, within_s=100)
    assert server.poll() is None, "the command server ended"
    yield {**base, "PATH": f"{folder}:{os.environ['PATH']}", "CKPTWATCH_LAUNCH_PYTHON": str(client)}
    server.kill()
    server.wait()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", ROOMS)
def test_the_commands_of_a_how_to_page_do_what_it_says(page, shell, tmp_path):
    for name in ("checkpoints", "out", "log", "data"):
        (tmp_path / name).mkdir()
    ROOMS[page](tmp_path)
    script, typed = "", []
    for command in commands(page):
        if why_not(page, command) is None:
            changed = command
            for pattern, instead in CHANGES:
                changed = re.sub(pattern, instead, changed)
            script += f"echo '>>> {len(typed)}' >&2\n{changed}\necho $? >> statuses\n"
            typed.append(command)
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=shell, capture_output=True, text=True, timeout=110, check=False
    )
    statuses = [int(line) for line in (tmp_path / "statuses").read_text().split()]
    wrong = [
        f"{command}: status {status}"
        for command, status in zip(typed, statuses, strict=True)
        if status not in STATUSES.get(command, {0})
    ]
    assert wrong == [], done.stderr[-4000:]


def test_every_command_of_the_how_to_pages_is_run_or_has_a_reason():
    for path in sorted(PAGES.glob("*.md")):
        page, every = path.stem, list(commands(path.stem))
        idle = [command for command in every if page not in ROOMS and why_not(page, command) is None]
        assert idle == [], page
        stale = [start for start in NOT_RUN.get(page, {}) if not any(c.startswith(start) for c in every)]
        assert stale == [], page
    assert all(any(why_not(page, command) is None for command in commands(page)) for page in ROOMS)
