"""What is watched and measured on: runs, rejected candidates, checkpoints, eval sets."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from watcher.store.tables.base import Key, metadata

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("name", Text, nullable=False, unique=True, comment="Name, as in `results`."),
    Column("dir", Text, nullable=False, comment="The watched folder."),
    Column("created_at", Text, nullable=False, comment="First start on it."),
    Column("last_scan_at", Text, comment="Newest scan of the folder."),
    Column(
        "rotates",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 once a file was seen to vanish or to be overwritten: from then on files are pinned.",
    ),
    Column("ignored", Text, comment="JSON: how many files the newest scan ignored, by reason."),
    comment="Watched training runs.",
)

candidates = Table(
    "candidates",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("path", Text, nullable=False, comment="Path relative to the watched folder."),
    Column("kind", Text, nullable=False, comment="What is wrong, in a word."),
    Column("reason", Text, nullable=False, comment="What is wrong, in a sentence."),
    Column("size_bytes", BigInteger, comment="Size of this version."),
    Column("mtime_ns", BigInteger, comment="Time of modification, nanoseconds."),
    Column("ctime_ns", BigInteger, comment="Time of change, nanoseconds."),
    Column(
        "final",
        Integer,
        nullable=False,
        comment="1: a rejection of this version; 0: still waited for (incomplete, unreadable).",
    ),
    Column("at", Text, nullable=False, comment="When it was found."),
    Column("hint", Text, comment="What to do about it; NULL where nothing helps, and in rows of earlier versions."),
    UniqueConstraint("run", "path"),
    comment="Files that matched but could not be registered, and why.",
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("path", Text, nullable=False, comment="Path relative to the watched folder."),
    Column("raw_path", LargeBinary, comment="The path's bytes, only where they are not UTF-8."),
    Column(
        "digest",
        Text,
        nullable=False,
        comment="What the file's directory claims (names, sizes, CRCs); for files without CRCs, of all bytes.",
    ),
    Column("format", Text, nullable=False, comment="How the file is stored."),
    Column("family", Text, comment="The model family that it was recognised as."),
    Column("parameters", BigInteger, comment="Number of parameters."),
    Column("size_bytes", BigInteger, nullable=False, comment="Size."),
    Column("dev", BigInteger, nullable=False, comment="Device of the file system."),
    Column("inode", BigInteger, nullable=False, comment="Inode."),
    Column("mtime_ns", BigInteger, nullable=False, comment="Time of modification, nanoseconds."),
    Column("ctime_ns", BigInteger, nullable=False, comment="Time of change, nanoseconds."),
    Column("step", BigInteger, comment="The step that counts: the file's, else the file name's."),
    Column("step_source", Text, nullable=False, comment="Where the step was read."),
    Column("payload_step", BigInteger, comment="The step stored in the file."),
    Column("name_step", BigInteger, comment="The step in the file name."),
    Column("tokens_seen", BigInteger, comment="Training tokens so far, where the file holds them."),
    Column("logged_val_loss", Float, comment="Validation loss logged by the trainer, where the file holds it."),
    Column("config", Text, comment="JSON: the model's configuration."),
    Column("note", Text, comment="What is unusual about the file."),
    Column("spool_path", Text, comment="The pinned copy, while there is one."),
    Column(
        "superseded",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 where another version of the same path was observed later.",
    ),
    Column("saved_at", Text, nullable=False, comment="When the file was last written."),
    Column("registered_at", Text, nullable=False, comment="When it had settled and was registered."),
    Column("assumed", Text, comment="What the file leaves open and is assumed, `name=value`; NULL where nothing is."),
    Column("sidecars", Text, comment="JSON: files beside it that its configuration comes from; NULL where none does."),
    Column("model_digest", Text, nullable=False, server_default="", comment="As in `results`; empty in rows of 0.1.0."),
    Column("model_settings", Text, comment="Digest of the `[model]` settings that `model_digest` was taken with."),
    Column("content_digest", Text, comment="As in `results`; NULL until a worker has read this version's bytes."),
    Column(
        "observed_at",
        Text,
        nullable=False,
        comment="When it last became the version at its path: versions order by it.",
    ),
    Column("changed_at", Text, comment="When its bytes were last possibly rewritten: they are read again after that."),
    Column(
        "undone",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1 where an earlier version was put back over it.",
    ),
    Column(
        "weights", Text, comment="As in `results`; such a row stands for a mean, and its members are in `averages`."
    ),
    UniqueConstraint("run", "path", "digest"),
    Index(None, "run", "digest"),
    Index(None, "run", "step"),
    Index(None, "run", "observed_at"),
    comment="Every settled version of every file.",
)

eval_sets = Table(
    "eval_sets",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("name", Text, nullable=False, comment="Name of the set."),
    Column("digest", Text, nullable=False, comment="As `eval_digest` in `results`."),
    Column("spec", Text, nullable=False, comment="JSON: the whole definition."),
    Column("current", Integer, nullable=False, comment="1: the definition that the run measures on now."),
    Column("created_at", Text, nullable=False, comment="When it was first used."),
    Column(
        "kind", Text, nullable=False, server_default="loss", comment="What it measures: loss, task, or sample (texts)."
    ),
    Column("suite", Text, comment="The suite whose member it is now; NULL for a set of its own."),
    UniqueConstraint("run", "name", "digest"),
    CheckConstraint("kind IN ('loss', 'task', 'sample')", name="kind"),
    comment="Every definition that a set of a run ever had; results keep pointing at theirs by its digest.",
)
