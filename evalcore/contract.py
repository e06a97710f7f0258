"""What the daemon and the worker say to each other: eval sets, requests, outcomes, and the files that carry them.

Owns the names and shapes of every file in a launch folder. Standard library only: both sides import it.
A launch folder:

    launch.json            LaunchSpec, written before the worker starts
    items/000001.json      Item: one checkpoint and its tasks; added while the worker runs, in order of name
    started/<attempt>      written by rank 0 when it starts on a task: this is what charges the attempt
    outcomes/<attempt>.json  Outcome of one task: temp name, fsync, rename; the truth about the attempt
    progress.json          Progress, rewritten now and then by rank 0: the daemon's stall clock
    closed                 the worker takes no further items
    cancel                 written by the daemon: end after the current window
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = 1
OUTCOME_MAX_BYTES = 64 << 20

#: Kinds of failure; the first group is deterministic: retrying cannot help until the file or the configuration changes.
DETERMINISTIC_KINDS = frozenset({"corrupt", "unsafe", "unsupported", "shape", "data", "vanished"})
TRANSIENT_KINDS = frozenset({"oom", "timeout", "crash", "protocol"})
FAILURE_KINDS = DETERMINISTIC_KINDS | TRANSIENT_KINDS
#: The reason of a superseded outcome that says nothing of the checkpoint: evaluate it again, on the data as it is now.
DATA_CHANGED = "the data files changed after they were hashed"


class ContractError(ValueError):
    """A request or outcome that does not follow this contract; the message names the field."""


@dataclass(frozen=True)
class ModelSpec:
    """How to make the model where the file alone does not tell: the `[model]` section.

    factory: `package.module:function`, called as factory(config: dict, state: Mapping) -> torch.nn.Module
    config: a JSON/YAML/TOML file, or a dict given inline, used where the checkpoint has none
    state: which of several state dicts in the file (`ema`, `model`, ...)
    python_path: folders put before sys.path for the factory
    """

    factory: str | None = None
    config: dict[str, Any] | None = None
    state: str | None = None
    python_path: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvalSetSpec:
    """Named, frozen description of what to measure on. `None` in seq_len or stride means the declared value `auto`.

    seq_len, stride, max_tokens: tokens. format: auto | text | jsonl | npy | bin | raw. tokenizer: a tiktoken name,
    `bytes`, or a file. dtype: auto | float32 | bfloat16 | float16. token_dtype: for headerless token files.
    data_digest: `sha256:...` of the content of the files, in order; tokenizer_digest likewise where it is a file.
    stamps: `stamp` of each file when it was hashed: what the digest speaks of.
    """

    name: str
    paths: tuple[str, ...]
    format: str = "auto"
    tokenizer: str | None = None
    seq_len: int | None = None
    stride: int | None = None
    max_tokens: int | None = None
    dtype: str = "auto"
    text_field: str = "text"
    token_dtype: str | None = None
    data_digest: str = ""
    tokenizer_digest: str = ""
    stamps: tuple[str, ...] = ()

    def digest(self, model: ModelSpec | None = None) -> str:
        """Digest of everything that moves the number: content and declared values, and the model's own settings.

        The set's name and the paths of its files do not count: the same content measured the same way is the same.
        """
        said = dataclasses.asdict(self)
        del said["name"], said["paths"], said["stamps"]
        if self.tokenizer_digest:
            del said["tokenizer"]
        if model is not None and model != ModelSpec():
            said["model"] = {"factory": model.factory, "config": model.config, "state": model.state}
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class LaunchSpec:
    """Everything one torchrun launch needs besides its items.

    device: cpu | cuda | auto. batch_size: windows per forward pass and rank; None means found by memory.
    threads: per rank on CPU. linger_s: how long to wait for another item before ending. verify: model | all.
    cache_dir: where tokenised text is kept.
    """

    launch: str
    eval_sets: tuple[EvalSetSpec, ...] = ()
    model: ModelSpec = field(default_factory=ModelSpec)
    device: str = "auto"
    batch_size: int | None = None
    threads: int | None = None
    linger_s: float = 0.0
    verify: str = "model"
    require_zip: bool = False
    cache_dir: str | None = None
    selfcheck: bool = False
    version: int = VERSION


@dataclass(frozen=True)
class Task:
    """One attempt of one job: evaluate the item's checkpoint on the named eval set, answer with this token."""

    attempt: int
    token: str
    eval_set: str


@dataclass(frozen=True)
class Item:
    """One checkpoint and its tasks.

    path: what to open (the file itself, or its pinned copy), surrogateescape text. digest, size_bytes: the identity
    the daemon registered; a mismatch before or after is the outcome `superseded`. beside: the trainer's own path, where
    configuration files lie that speak of it, if `path` is a pinned copy.
    """

    path: str
    digest: str
    size_bytes: int
    tasks: tuple[Task, ...]
    shown_path: str = ""
    beside: str = ""
    version: int = VERSION


@dataclass(frozen=True)
class Measurement:
    """One eval set's number on one checkpoint, as the results table keeps it.

    loss: nats per target. window_nats, window_targets: one entry per window (float64 nats; target counts).
    """

    loss: float
    ppl: float | None
    bits_per_byte: float | None
    loss_stderr: float | None
    finite: bool
    tokens: int
    bytes: int | None
    seq_len: int
    stride: int
    batch_size: int
    dtype: str
    device: str
    world_size: int
    load_seconds: float
    eval_seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    note: str | None = None
    step: int | None = None
    step_source: str | None = None
    logged_val_loss: float | None = None
    tokens_seen: int | None = None
    evalcore_version: str = ""
    torch_version: str = ""
    window_nats: tuple[float, ...] = ()
    window_targets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt: a measurement, `superseded`, or a failure with its kind and reason.

    status: succeeded | superseded | failed. kind: one of FAILURE_KINDS where status is failed.
    """

    attempt: int
    token: str
    status: str
    kind: str | None = None
    reason: str | None = None
    hint: str | None = None
    measurement: Measurement | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.status not in ("succeeded", "superseded", "failed"):
            raise ContractError(f"outcome.status is {self.status!r}, not succeeded, superseded or failed")
        if self.status == "failed" and self.kind not in FAILURE_KINDS:
            raise ContractError(f"outcome.kind is {self.kind!r}, not one of {', '.join(sorted(FAILURE_KINDS))}")
        if self.status == "succeeded" and self.measurement is None:
            raise ContractError("outcome.measurement is missing in a succeeded outcome")


@dataclass(frozen=True)
class Progress:
    """How far a long piece of work is: for `status`, the page, a terminal's line, and the stall clock.

    done of total in `unit` (windows | bytes | files); total 0: it is not known. of: the eval set or run that it works
    on. attempt 0: it is no job's. since, at: Unix seconds, when this phase began and when this was said.
    """

    phase: str
    done: int = 0
    total: int = 0
    unit: str = ""
    of: str = ""
    attempt: int = 0
    since: float = 0.0
    at: float = 0.0


def to_json(value: Any) -> str:
    """A contract dataclass as JSON; non-finite floats become the strings `nan`, `inf`, `-inf` (JSON has none)."""
    return json.dumps(_spell(dataclasses.asdict(value)), sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(kind: type, text: str) -> Any:
    """Read back what `to_json` wrote. Raises ContractError on anything else: wrong version, field, or type."""
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"{kind.__name__} is not JSON: {error}") from None
    return _build(kind, data)


def digest_files(paths: Iterable[str], report: Callable[[int], None] | None = None) -> str:
    """`sha256:...` over size and bytes of each file, in order. report(bytes so far): as it goes. Raises OSError."""
    whole, done = hashlib.sha256(), 0
    for path in paths:
        with open(path, "rb") as file:
            whole.update(os.fstat(file.fileno()).st_size.to_bytes(8, "little"))
            while chunk := file.read(1 << 22):
                whole.update(chunk)
                done += len(chunk)
                if report is not None:
                    report(done)
    return "sha256:" + whole.hexdigest()


def stamp(path: str) -> str:
    """`size:mtime_ns:inode` of a file: with another one, its content may be another. Raises OSError."""
    status = os.stat(path)
    return f"{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Write by temp name, fsync, rename, fsync of the folder: the file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)
    if not durable:
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_progress(path: Path, now: Progress) -> None:
    """Rewrite a progress file. No fsync, unlike an outcome: a lost beat costs nothing, nor may a written one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(to_json(now), encoding="utf-8", errors="surrogateescape")
    temporary.replace(path)


@dataclass(frozen=True)
class LaunchFolder:
    """All file names of one launch."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "launch.json"

    @property
    def items(self) -> Path:
        return self.root / "items"

    @property
    def progress(self) -> Path:
        return self.root / "progress.json"

    @property
    def closed(self) -> Path:
        return self.root / "closed"

    @property
    def cancel(self) -> Path:
        return self.root / "cancel"

    @property
    def log(self) -> Path:
        return self.root / "worker.log"

    def item(self, number: int) -> Path:
        return self.items / f"{number:06d}.json"

    def started(self, attempt: int) -> Path:
        return self.root / "started" / str(attempt)

    def outcome(self, attempt: int) -> Path:
        return self.root / "outcomes" / f"{attempt}.json"

    def create(self) -> None:
        for folder in (self.root, self.items, self.root / "started", self.root / "outcomes"):
            folder.mkdir(parents=True, exist_ok=True)


def read_outcome(path: Path) -> Outcome:
    """Read one outcome file. Raises ContractError when it is too large or malformed, FileNotFoundError when absent."""
    if path.stat().st_size > OUTCOME_MAX_BYTES:
        raise ContractError(f"outcome {path} is larger than {OUTCOME_MAX_BYTES} bytes")
    return from_json(Outcome, path.read_text(encoding="utf-8", errors="surrogateescape"))


def _spell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, dict):
        return {key: _spell(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spell(item) for item in value]
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_NESTED = {
    (LaunchSpec, "model"): ModelSpec,
    (Outcome, "measurement"): Measurement,
    (LaunchSpec, "eval_sets"): EvalSetSpec,
    (Item, "tasks"): Task,
}


def _build(kind: type, data: Any) -> Any:
    if not isinstance(data, dict):
        raise ContractError(f"{kind.__name__} is a {type(data).__name__}, not an object")
    known = {f.name: f for f in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - set(known)):
        raise ContractError(f"{kind.__name__} has unknown fields: {', '.join(unknown)}")
    if "version" in known and data.get("version") != VERSION:
        raise ContractError(f"{kind.__name__}.version is {data.get('version')!r}; this is version {VERSION}")
    values = {name: _value(kind, name, known[name].type, item) for name, item in data.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise ContractError(f"{kind.__name__}: {error}") from None


def _value(kind: type, name: str, annotation: Any, item: Any) -> Any:
    nested = _NESTED.get((kind, name))
    text = str(annotation)
    if nested is not None and item is not None:
        if text.startswith("tuple"):
            return tuple(_build(nested, part) for part in _list(kind, name, item))
        return _build(nested, item)
    if text.startswith("tuple"):
        inner = text[6:].split(",")[0]
        return tuple(_scalar(kind, name, inner, part) for part in _list(kind, name, item))
    return _scalar(kind, name, text, item)


def _list(kind: type, name: str, item: Any) -> list[Any]:
    if not isinstance(item, list):
        raise ContractError(f"{kind.__name__}.{name} is a {type(item).__name__}, not a list")
    return item


def _scalar(kind: type, name: str, annotation: str, item: Any) -> Any:
    allowed = [part.strip() for part in annotation.split("|")]
    if item is None and "None" in allowed:
        return None
    if "float" in allowed and (item in ("nan", "inf", "-inf") or type(item) in (int, float)):
        return float(item)
    if type(item).__name__ in allowed or (isinstance(item, dict) and annotation.startswith("dict")):
        return item
    raise ContractError(f"{kind.__name__}.{name} is {str(item)[:60]!r}, expected {annotation}")
