"""The commented ckptwatch.toml that `init` proposes for what it discovered. The caller writes the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from watcher.domain.run_name import distinct_run_name
from watcher.domain.set_name import set_name
from watcher.settings.paths import plain_path
from watcher.settings.template import path_from, toml_value
from watcher.setup.discover import Discovery, Training

CONTEXT_KEYS = ("max_position_embeddings", "block_size", "n_positions", "sequence_len", "n_ctx", "max_seq_len")
BYTEWISE_VOCABULARIES = (256, 257)  # ids that are bytes, perhaps with an end of text


def compose(discovery: Discovery, data: Sequence[Path], base: Path, kinds: dict[str, str]) -> str:
    """The text of ckptwatch.toml. base: the folder of the file. kinds: data path -> text, npy, ... where known."""
    lines = [
        "# ckptwatch: evaluate every checkpoint that the trainer saves. Start with:  ckptwatch run",
        "# Paths are relative to this file. Every key with its default:  ckptwatch config schema --toml",
    ]
    lines += _run_lines(discovery.trainings, base)
    names: list[str] = []
    for file in data:
        name = set_name(str(file), names)
        same = sum(other == name or other.startswith(f"{name}-") for other in names)
        names.append(f"{name}-{same + 1}" if same else name)
        lines += ["", "[[eval]]", f"name = {toml_value(names[-1])}", f"data = {toml_value(path_from(file, base))}"]
        lines += _measure_lines(discovery, kinds.get(str(file)))
    if not data:
        lines += [
            "",
            "# Validation data: set `data` to a file (.npy, .bin, .txt, .jsonl) and uncomment these three lines",
            "# [[eval]]",
        ]
        lines += ['# name = "val"', '# data = "val.npy"']
    lines += [
        "",
        "[launch]",
        'device = "auto"                 # "cpu" leaves the GPUs to the trainer',
        "nproc = 1                       # processes: one per GPU, or CPU ranks",
        '# when = "always"               # or "free", "after_training": while a trainer uses the same GPU',
        "",
        "[store]",
        'url = "ckptwatch.db"            # SQLite: sqlite3 -readonly ckptwatch.db "SELECT step, loss FROM results"',
        "",
        "# [web]",
        "# enabled = true                # the dashboard, at http://127.0.0.1:8745",
    ]
    return "\n".join(lines) + "\n"


def _measure_lines(discovery: Discovery, kind: str | None) -> list[str]:
    config = (discovery.readable or {}).get("config") or {}
    context = next((config[key] for key in CONTEXT_KEYS if isinstance(config.get(key), int)), None)
    lines = [
        f"# seq_len = {min(context or 1024, 1024):<4}               # by default the model's context, at most 1024"
    ]
    if kind == "task":
        lines = ["# seq_len = 1024               # longest item in tokens; by default the model's context"]
    if kind in ("text", "jsonl", "task"):
        bytewise = isinstance(size := config.get("vocab_size"), int) and size in BYTEWISE_VOCABULARIES
        own = (discovery.readable or {}).get("own_tokenizer")
        name = '"bytes"' if bytewise else '"auto" ' if own else '"gpt2" '
        lines.append(
            f'tokenizer = {name}             # the tokenizer used in training: a tiktoken name, "bytes", or a file'
        )
    else:
        lines.append('# tokenizer = "gpt2"            # needed for bits per byte')
    if kind == "task":
        return [*lines, "# max_items = 500               # score only N items"]
    return [*lines, "# max_tokens = 1000000          # use only the first N tokens"]


def _run_lines(trainings: Sequence[Training], base: Path) -> list[str]:
    """A [[run]] for each training; the keys that people set are shown in the first."""
    lines: list[str] = []
    names = run_names_of(trainings)
    for training, name in zip(trainings, names, strict=True):
        lines += ["", "[[run]]", f"name = {toml_value(name)}"]
        lines += [f"dir = {toml_value(path_from(training.dir, base))}   # {_count_words(training)}"]
        lines += [f"include = {toml_value(training.include)}"]
        if name == names[0]:
            lines += [
                "# settle_s = 2.0                # seconds without a change before a file is read",
                '# order = "newest"              # or "oldest", or "fill": coarse to fine through a backlog',
                "# every = 1                     # only steps that are a multiple of this, plus the newest",
                '# backfill = "all"              # or "latest", "none": which existing files to evaluate',
            ]
    return lines


def _count_words(training: Training) -> str:
    if training.files == 0:
        return "no checkpoint yet"
    return f"{training.files} checkpoint(s) when this was written"


def run_names_of(trainings: Sequence[Training]) -> list[str]:
    """The names that `run --dir` would give to these folders."""
    names: list[str] = []
    for training in trainings:
        names.append(distinct_run_name(plain_path(training.dir), names))
    return names
