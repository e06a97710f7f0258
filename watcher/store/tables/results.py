"""The numbers: `results`, which is public API and flat on purpose, and the windows behind each loss."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from watcher.store.tables.base import Key, metadata

results = Table(
    "results",
    metadata,
    Column("id", Key, primary_key=True, comment="Number of the row; later rows have larger ones."),
    Column("run", Text, nullable=False, comment="Name of the training run."),
    Column("checkpoint", Text, nullable=False, comment="Path of the file, relative to the watched folder."),
    Column(
        "step", BigInteger, comment="Training step, from the file or else from its name; NULL where neither holds one."
    ),
    Column("eval_set", Text, nullable=False, comment="Name of the validation set."),
    Column("loss", Float, comment="Mean loss in nats per scored target; NULL where it is not finite."),
    Column("ppl", Float, comment="Perplexity, exp(loss); NULL where it is no finite number (`note` says why)."),
    Column(
        "bits_per_byte",
        Float,
        comment="Bits per byte of the text that the targets stand for; NULL where the bytes are not known.",
    ),
    Column(
        "loss_stderr",
        Float,
        comment="Standard error of `loss` in nats, over documents where at least 10 are known, else over windows.",
    ),
    Column("finite", Integer, nullable=False, comment="1 where `loss` is a finite number, else 0."),
    Column("tokens", BigInteger, nullable=False, comment="Scored targets: one less than the tokens of the stream."),
    Column("bytes", BigInteger, comment="Bytes of text that the scored targets stand for; NULL where not known."),
    Column("seq_len", Integer, nullable=False, comment="Window length in tokens."),
    Column("stride", Integer, comment="Tokens from one window's start to the next one's; NULL for a task."),
    Column("batch_size", Integer, nullable=False, comment="Windows in one forward pass of one process."),
    Column(
        "dtype",
        Text,
        nullable=False,
        comment="Arithmetic of the forward pass: float32, bfloat16 or float16 (autocast).",
    ),
    Column("device", Text, nullable=False, comment="cpu or cuda."),
    Column("world_size", Integer, nullable=False, comment="Processes that shared the work."),
    Column(
        "load_seconds", Float, nullable=False, comment="Time to read the checkpoint and fill the model, in seconds."
    ),
    Column("eval_seconds", Float, nullable=False, comment="Time of the forward passes, in seconds."),
    Column("tokens_per_second", Float, nullable=False, comment="Scored targets per second of `eval_seconds`."),
    Column(
        "peak_memory_bytes",
        BigInteger,
        nullable=False,
        comment="Largest memory of one process: allocated on the GPU, resident on the CPU; in bytes.",
    ),
    Column("logged_val_loss", Float, comment="Validation loss logged by the trainer, where the file holds it."),
    Column("tokens_seen", BigInteger, comment="Training tokens so far, where the file holds them."),
    Column("note", Text, comment="The reason of anything unusual; NULL where nothing was."),
    Column(
        "checkpoint_digest",
        Text,
        nullable=False,
        comment="What the file's directory claims; equal content has an equal digest, whatever its name.",
    ),
    Column(
        "eval_digest",
        Text,
        nullable=False,
        comment="Digest of data and measurement: everything that affects the result except the model.",
    ),
    Column("evalcore_version", Text, nullable=False, comment="Version of the evaluating code."),
    Column("torch_version", Text, nullable=False, comment="Version of PyTorch."),
    Column(
        "attempt",
        Integer,
        nullable=False,
        comment="Which attempt of the job gave this result, interrupted ones counted too.",
    ),
    Column(
        "superseded",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 where another version of the same path and step was observed later, or it was undone.",
    ),
    Column("saved_at", Text, nullable=False, comment="When the file was last written."),
    Column("evaluated_at", Text, nullable=False, comment="When the result was recorded."),
    Column("task", Text, comment="Name of the task; NULL for a loss on a token stream."),
    Column("items", BigInteger, comment="Items of the task that were scored."),
    Column("accuracy", Float, comment="Share of items answered correctly."),
    Column("accuracy_norm", Float, comment="Share of items answered correctly by length-normalised scores."),
    Column("accuracy_stderr", Float, comment="Standard error of `accuracy`."),
    Column("random_baseline", Float, comment="Accuracy of guessing."),
    Column(
        "weights",
        Text,
        comment="How the weights were made where they are a mean of checkpoints; NULL for a single checkpoint.",
    ),
    Column(
        "model_digest",
        Text,
        comment="Digest of everything beside the file that makes it a model: settings, sidecar, factory, family.",
    ),
    Column(
        "content_digest", Text, comment="SHA-256 over the record bytes that the worker read; NULL in rows of 0.1.0."
    ),
    Column("family", Text, comment="The model family that the checkpoint was evaluated as."),
    Column("assumed", Text, comment="What the file leaves open and was assumed, `name=value`; NULL where nothing was."),
    UniqueConstraint(
        "run",
        "checkpoint",
        "checkpoint_digest",
        "content_digest",
        "model_digest",
        "eval_set",
        "eval_digest",
        name="uq_results_version",
    ),
    CheckConstraint("finite = 0 OR loss IS NOT NULL", name="finite_has_loss"),
    Index(None, "run", "eval_set", "step"),
    Index(None, "run", "eval_set", "loss"),  # the best of each curve, and below the latest, without reading the curve
    Index(None, "run", "eval_set", "saved_at"),
    Index("ix_results_same_content", "run", "checkpoint_digest", "model_digest", "eval_digest", "content_digest"),
    comment="One row for each checkpoint version and eval set: the numbers, and everything that they depend on.",
    sqlite_autoincrement=True,  # the id of a deleted row is never used again: sinks know rows by their id
)

windows = Table(
    "windows",
    metadata,
    Column(
        "result_id",
        Key,
        ForeignKey("results.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The row of `results`.",
    ),
    Column("nats", LargeBinary, nullable=False, comment="zlib of little-endian float64, one for each window."),
    Column("targets", LargeBinary, nullable=False, comment="zlib of little-endian uint32, one for each window."),
    Column(
        "position_nats",
        LargeBinary,
        comment="zlib of little-endian float64: nats summed over all windows, one for each position in the window; "
        "NULL where they were not recorded.",
    ),
    Column(
        "position_targets",
        LargeBinary,
        comment="zlib of little-endian uint32: scored targets, one for each position in the window.",
    ),
    Column(
        "spikes",
        LargeBinary,
        comment="zlib of JSON: the windows with the highest loss, their documents, and the passage with the most nats.",
    ),
    comment="The nats and targets of each window of a result, for paired comparisons, of each position, and the "
    "highest windows.",
)
