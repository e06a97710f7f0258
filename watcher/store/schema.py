"""The tables, in SQLAlchemy Core. `results` is public API: flat on purpose, read with plain SQL.

Uniqueness and legal states stand here, as constraints; the views stand in views.py. Times are ISO-8601 UTC text.
"""

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
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

REVISION = "0001"  # the newest of migrations/versions
APPLICATION_ID = 0x636B7077  # "ckpw": SQLite's PRAGMA application_id

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Key = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid needs INTEGER

runs = Table(
    "runs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("dir", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("last_scan_at", Text),
    Column("rotates", Integer, nullable=False, server_default=text("0")),
    Column("ignored", Text),  # JSON: what the newest scan left aside, and why
)

candidates = Table(
    "candidates",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("mtime_ns", BigInteger),
    Column("ctime_ns", BigInteger),
    Column("final", Integer, nullable=False),  # 1: a verdict; 0: still waited for (incomplete, unreadable)
    Column("at", Text, nullable=False),
    UniqueConstraint("run", "path"),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("raw_path", LargeBinary),  # only where the name is not UTF-8
    Column("digest", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("family", Text),
    Column("parameters", BigInteger),
    Column("size_bytes", BigInteger, nullable=False),
    Column("dev", BigInteger, nullable=False),
    Column("inode", BigInteger, nullable=False),
    Column("mtime_ns", BigInteger, nullable=False),
    Column("ctime_ns", BigInteger, nullable=False),
    Column("step", BigInteger),
    Column("step_source", Text, nullable=False),
    Column("payload_step", BigInteger),
    Column("name_step", BigInteger),
    Column("tokens_seen", BigInteger),
    Column("logged_val_loss", Float),
    Column("config", Text),  # JSON
    Column("note", Text),
    Column("spool_path", Text),
    Column("superseded", Integer, nullable=False, server_default=text("0")),
    Column("saved_at", Text, nullable=False),
    Column("registered_at", Text, nullable=False),
    UniqueConstraint("run", "path", "digest"),
    Index(None, "run", "digest"),
    Index(None, "run", "step"),
)

eval_sets = Table(
    "eval_sets",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("spec", Text, nullable=False),  # JSON of evalcore.messages.EvalSetSpec
    Column("current", Integer, nullable=False),  # the definition that the run measures on now
    Column("created_at", Text, nullable=False),
    UniqueConstraint("run", "name", "digest"),
)

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")
jobs = Table(
    "jobs",
    metadata,
    Column("id", Key, primary_key=True),
    Column("checkpoint_id", Key, ForeignKey("checkpoints.id"), nullable=False),
    Column("eval_set_id", Key, ForeignKey("eval_sets.id"), nullable=False),
    Column("run", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("kind", Text),
    Column("reason", Text),
    Column("hint", Text),
    Column("priority", Integer, nullable=False, server_default=text("0")),
    Column("order_key", BigInteger, nullable=False),  # when the checkpoint was saved, ns: newest or oldest first
    Column("charged", Integer, nullable=False, server_default=text("0")),  # attempts that count
    Column("orphaned", Integer, nullable=False, server_default=text("0")),  # attempts that died with the daemon
    Column("not_before", Text),
    Column("token", Text),
    Column("launch_id", Text),
    Column("enqueued_at", Text, nullable=False),
    Column("claimed_at", Text),
    Column("finished_at", Text),
    UniqueConstraint("checkpoint_id", "eval_set_id"),
    CheckConstraint("state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state"),
    CheckConstraint(
        "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="final_has_finished_at"
    ),
    CheckConstraint("(state = 'running') = (token IS NOT NULL)", name="running_has_token"),
    CheckConstraint("state NOT IN ('failed', 'cancelled') OR kind IS NOT NULL", name="ended_has_kind"),
    Index(None, "state", "priority", "order_key"),
    Index(None, "run", "state", "priority", "order_key"),  # what a claim walks, however long other runs' queues are
    Index(None, "checkpoint_id", "state"),  # SQLite knows no numbers of rows: it takes the index that names most
    Index(None, "launch_id"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Key, primary_key=True),
    Column("job_id", Key, ForeignKey("jobs.id"), nullable=False, index=True),
    Column("launch_id", Text, nullable=False, index=True),
    Column("token", Text, nullable=False, unique=True),
    Column("claimed_at", Text, nullable=False),
    Column("started_at", Text),
    Column("finished_at", Text),
    Column("outcome", Text),  # NULL while open; succeeded, failed, superseded, orphaned, released
    Column("kind", Text),
    Column("reason", Text),
    Column("charged", Integer, nullable=False, server_default=text("0")),
)

launches = Table(
    "launches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),  # host:boot id:pid of the daemon
    Column("home", Text),  # identity of the daemon's state folder: whose lock is held there owns the launch
    Column("lease_expires_at", Text),  # by the server's clock; NULL on SQLite, where one daemon has all
    Column("executor", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("world_size", Integer, nullable=False),
    Column("pid", Integer),
    Column("pid_start", BigInteger),  # field 22 of /proc/<pid>/stat: a reused pid has another
    Column("external_id", Text),  # Slurm's job id
    Column("started_at", Text, nullable=False),
    Column("finished_at", Text),
    Column("exit_code", Integer),
    Column("reason", Text),
)

results = Table(
    "results",
    metadata,
    Column("id", Key, primary_key=True),
    Column("run", Text, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("step", BigInteger),
    Column("eval_set", Text, nullable=False),
    Column("loss", Float),
    Column("ppl", Float),
    Column("bits_per_byte", Float),
    Column("loss_stderr", Float),
    Column("finite", Integer, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("bytes", BigInteger),
    Column("seq_len", Integer, nullable=False),
    Column("stride", Integer, nullable=False),
    Column("batch_size", Integer, nullable=False),
    Column("dtype", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("world_size", Integer, nullable=False),
    Column("load_seconds", Float, nullable=False),
    Column("eval_seconds", Float, nullable=False),
    Column("tokens_per_second", Float, nullable=False),
    Column("peak_memory_bytes", BigInteger, nullable=False),
    Column("logged_val_loss", Float),
    Column("tokens_seen", BigInteger),
    Column("note", Text),
    Column("checkpoint_digest", Text, nullable=False),
    Column("eval_digest", Text, nullable=False),
    Column("evalcore_version", Text, nullable=False),
    Column("torch_version", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("superseded", Integer, nullable=False, server_default=text("0")),
    Column("saved_at", Text, nullable=False),
    Column("evaluated_at", Text, nullable=False),
    UniqueConstraint("run", "checkpoint", "checkpoint_digest", "eval_set", "eval_digest"),
    CheckConstraint("finite = 0 OR loss IS NOT NULL", name="finite_has_loss"),
    Index(None, "run", "eval_set", "step"),
    Index(None, "run", "eval_set", "loss"),  # the best of each curve, and below the latest, without reading the curve
    Index(None, "run", "eval_set", "saved_at"),
    Index(None, "run", "checkpoint_digest"),  # has this content been measured already?
)

windows = Table(
    "windows",
    metadata,
    Column("result_id", Key, ForeignKey("results.id", ondelete="CASCADE"), primary_key=True),
    Column("nats", LargeBinary, nullable=False),  # zlib of little-endian float64, one per window
    Column("targets", LargeBinary, nullable=False),  # zlib of little-endian uint32, one per window
)

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("run", Text),
    Column("detail", Text, nullable=False),  # JSON
    Index(None, "name", "at"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", Key, primary_key=True),
    Column("sink", Text, nullable=False),
    Column("kind", Text, nullable=False),  # result | failure | event
    Column("subject_id", BigInteger, nullable=False),
    Column("state", Text, nullable=False),  # pending | done | gave_up
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("error", Text),
    Column("not_before", Text),
    Column("enqueued_at", Text, nullable=False),
    Column("done_at", Text),
    UniqueConstraint("sink", "kind", "subject_id"),
    Index(None, "state", "sink"),
)
