"""What the daemon and the worker send each other: eval sets, requests and outcomes, each to JSON and back.

Standard library only: both sides import it. The files that carry these messages are named in launch_folder.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from evalcore.message_json import ContractError, from_json, to_json
from evalcore.sampling.spec import SampleSpec
from evalcore.spikes import Spike
from evalcore.tasks.spec import TaskSpec

__all__ = [
    "AttemptRequest",
    "ContractError",
    "EvalSetSpec",
    "Item",
    "LaunchSpec",
    "Measurement",
    "Member",
    "ModelSpec",
    "Outcome",
    "SampleSpec",
    "SampleText",
    "TaskSpec",
    "from_json",
    "to_json",
]

VERSION = 1
#: Raised when a change moves values beyond the tolerance; 1 is 0.1.0. Part of every eval digest above 1.
NUMERICS_VERSION = 1

#: Kinds of failure; the first group is deterministic: retrying cannot help until the file or the configuration changes.
DETERMINISTIC_KINDS = frozenset({"corrupt", "unsafe", "unsupported", "shape", "data", "vanished"})
TRANSIENT_KINDS = frozenset({"oom", "timeout", "crash", "protocol"})
FAILURE_KINDS = DETERMINISTIC_KINDS | TRANSIENT_KINDS
#: The kind of a superseded outcome that is about the data, not the checkpoint: evaluate it again on the new data.
DATA_CHANGED = "data_changed"
OUTCOMES = ("succeeded", "known", "superseded", "released", "failed")


@dataclass(frozen=True)
class ModelSpec:
    """How to make the model where the file alone does not tell: the `[model]` section.

    factory: `package.module:function`, called as factory(config: dict, state: Mapping) -> torch.nn.Module
    config: fields of the model's configuration; they complete and correct the checkpoint's own
    state: which of several state dicts in the file (`ema`, `model`, ...)
    python_path: folders put before sys.path for the factory
    factory_digest: `sha256:...` of the factory's code when the settings were resolved
    """

    factory: str | None = None
    config: dict[str, Any] | None = None
    state: str | None = None
    python_path: tuple[str, ...] = ()
    factory_digest: str = ""


@dataclass(frozen=True)
class EvalSetSpec:
    """Named, frozen description of what to measure on. `None` in seq_len or stride means the declared value `auto`.

    seq_len, stride, max_tokens: tokens. format: one of data_digest.FORMATS. tokenizer: a tiktoken name,
    `bytes`, or a file. dtype: auto | float32 | bfloat16 | float16. token_dtype: for headerless token files.
    kinds: how each file is read (`kind_of_name`), one entry where all are alike. data_digest: `sha256:...` of the
    content of the files, in order; tokenizer_digest of the tokenizer's files, where it is a file; meta_digest of
    nanoGPT's meta.pkl, where the bytes of ids come from there. companions: the files of these digests, absent ones
    too. stamps: `stamp` of each path and companion when it was hashed. task: how the items are scored, where the files
    hold items of a task; then seq_len limits a request (None: the model's context), and stride and max_tokens are None.
    suite: the suite of tasks that the set is a member of; not in the digest. sample: prompts to generate from, where
    nothing is measured; then there are no paths, and seq_len, stride and max_tokens are None.
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
    kinds: tuple[str, ...] = ()
    meta_digest: str = ""
    companions: tuple[str, ...] = ()
    task: TaskSpec | None = None
    suite: str | None = None
    sample: SampleSpec | None = None

    @property
    def kind(self) -> str:
        """loss | task | sample."""
        return "sample" if self.sample is not None else "loss" if self.task is None else "task"

    @property
    def hashed_paths(self) -> tuple[str, ...]:
        """Every file whose content the digests cover, in the order of `stamps`."""
        return (*self.paths, *self.companions)

    def digest(self) -> str:
        """Digest of data and measurement: content and declared values. The model has its own, `model_digest`.

        The set's name and the paths of its files do not count: the same content measured the same way is the same.
        """
        declared = dataclasses.asdict(self)
        del declared["name"], declared["paths"], declared["stamps"], declared["companions"], declared["task"]
        del declared["suite"], declared["sample"]
        if self.sample is not None:
            declared["sample"] = self.sample.declared()
        if self.task is not None:
            declared["task"] = self.task.declared()
        if not self.meta_digest:
            del declared["meta_digest"]
        # a name that leaves one reading is left out: the rows of 0.1.0 keep their digest where they are surely right
        if self.kinds in ((), ("text",)) or (self.kinds == ("npy",) and self.token_dtype is None):
            del declared["kinds"]
        if self.tokenizer_digest:
            del declared["tokenizer"]
        if NUMERICS_VERSION > 1:  # left out at 1, so that the rows of 0.1.0 keep their digest
            declared["numerics_version"] = NUMERICS_VERSION
        text = json.dumps(declared, sort_keys=True, separators=(",", ":"))
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
class AttemptRequest:
    """One attempt of one job: evaluate the item's checkpoint on the named eval set, answer with this token.

    known_contents: content digests whose value is known: a file that holds one of them is read and not evaluated.
    """

    attempt: int
    token: str
    eval_set: str
    known_contents: tuple[str, ...] = ()


@dataclass(frozen=True)
class Member:
    """One checkpoint of a mean; its fields as in Item. weight: the weights of a mean add up to 1."""

    path: str
    digest: str
    size_bytes: int
    weight: float
    shown_path: str = ""
    beside: str = ""


@dataclass(frozen=True)
class Item:
    """One checkpoint and the attempts to answer with it.

    path: what to open (the file itself, or its pinned copy), surrogateescape text. digest, size_bytes: the identity
    the daemon registered; a mismatch before or after is the outcome `superseded`. beside: where `path` is a pinned
    copy, the trainer's own path, which has its configuration files beside it. members: where the item is a mean, its
    checkpoints, the newest first; then `path` is the newest member's, and `digest` is that of the members.
    """

    path: str
    digest: str
    size_bytes: int
    attempts: tuple[AttemptRequest, ...]
    shown_path: str = ""
    beside: str = ""
    members: tuple[Member, ...] = ()
    version: int = VERSION


@dataclass(frozen=True)
class SampleText:
    """One generated text, without its prompt. tokens: its ids. ended: length | end_of_text | stopped (by the time
    limit) | not_finite."""

    prompt: str
    text: str
    tokens: tuple[int, ...]
    ended: str
    note: str | None = None


@dataclass(frozen=True)
class Measurement:
    """One eval set's number on one checkpoint, as the results table keeps it.

    loss: nats per target. content_digest: `sha256:...` of the record bytes that were read.
    window_nats, window_targets: one entry per window (float64 nats; target counts); empty for a task. position_nats,
    position_targets: one per place in the window, over all windows. spikes: the windows with the highest loss.
    stride: None for a task, and so are the fields from `task` on for a stream. For a task, loss: nats per token of all
    gold continuations; bits_per_byte: mean over items; ppl: None; tokens, bytes: of the gold continuations; seq_len:
    the limit of a request. accuracy, accuracy_norm, random_baseline: shares between 0 and 1. accuracy_norm: None where
    the task has one accuracy. ppl_item: exp(-mean over items of log p(gold)), for language modelling.
    item_scores: `tasks.item_scores.to_text`.
    """

    loss: float
    ppl: float | None
    bits_per_byte: float | None
    loss_stderr: float | None
    finite: bool
    tokens: int
    bytes: int | None
    seq_len: int
    stride: int | None
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
    content_digest: str = ""
    task: str | None = None
    items: int | None = None
    accuracy: float | None = None
    accuracy_norm: float | None = None
    accuracy_stderr: float | None = None
    accuracy_norm_stderr: float | None = None
    random_baseline: float | None = None
    ppl_item: float | None = None
    item_scores: str = ""
    position_nats: tuple[float, ...] = ()
    position_targets: tuple[int, ...] = ()
    spikes: tuple[Spike, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """How one attempt ended: a measurement or samples, `known`, `superseded`, or a failure with kind and reason.

    status: one of OUTCOMES. known: the bytes were read, and the value of content_digest is known already. released: put
    off, so that other work goes first. kind: one of FAILURE_KINDS where status is failed; None or DATA_CHANGED where it
    is superseded. content_digest: with `known` and samples, what was read.
    """

    attempt: int
    token: str
    status: str
    kind: str | None = None
    reason: str | None = None
    hint: str | None = None
    measurement: Measurement | None = None
    content_digest: str = ""
    samples: tuple[SampleText, ...] = ()
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.status not in OUTCOMES:
            raise ContractError(f"outcome.status is {self.status!r}, not one of {', '.join(OUTCOMES)}")
        if self.status == "failed" and self.kind not in FAILURE_KINDS:
            raise ContractError(f"outcome.kind is {self.kind!r}, not one of {', '.join(sorted(FAILURE_KINDS))}")
        if self.status == "succeeded" and self.measurement is None and not self.samples:
            raise ContractError("a succeeded outcome has neither measurement nor samples")
