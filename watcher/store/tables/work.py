"""What is to be done and who does it: jobs, attempts, launches."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from watcher.store.tables.base import Key, metadata

jobs = Table(
    "jobs",
    metadata,
    Column("id", Key, primary_key=True, comment="Number; `ckptwatch queue` and `ckptwatch logs` take it."),
    Column("checkpoint_id", Key, ForeignKey("checkpoints.id"), nullable=False, comment="The checkpoint."),
    Column("eval_set_id", Key, ForeignKey("eval_sets.id"), nullable=False, comment="The eval set."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("state", Text, nullable=False, comment="See [Job states](states.md)."),
    Column("kind", Text, comment="Kind of the failure or of the cancelling."),
    Column("reason", Text, comment="The reason in a sentence."),
    Column("hint", Text, comment="What to do about it."),
    Column("priority", Integer, nullable=False, server_default=text("0"), comment="Higher goes first."),
    Column("order_key", BigInteger, nullable=False, comment="When the checkpoint was saved, nanoseconds."),
    Column("charged", Integer, nullable=False, server_default=text("0"), comment="Attempts that count."),
    Column(
        "orphaned",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="Attempts that the daemon's own death interrupted; they do not count.",
    ),
    Column("not_before", Text, comment="Not to be claimed earlier: a pause before another attempt."),
    Column("token", Text, comment="The claim of the launch that works on it."),
    Column("launch_id", Text, comment="The newest launch that had it."),
    Column("enqueued_at", Text, nullable=False, comment="When it was queued."),
    Column("claimed_at", Text, comment="When it was claimed last."),
    Column("finished_at", Text, comment="When it reached a final state."),
    Column("model_digest", Text, nullable=False, server_default="", comment="As in `results`; empty in rows of 0.1.0."),
    Column(
        "again",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="1: evaluate it although the value of this content is known.",
    ),
    UniqueConstraint("checkpoint_id", "eval_set_id", "model_digest"),
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
    comment="One row for each checkpoint and eval set: its state, and how it ended.",
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("job_id", Key, ForeignKey("jobs.id"), nullable=False, index=True, comment="The job."),
    Column("launch_id", Text, nullable=False, index=True, comment="The launch."),
    Column("token", Text, nullable=False, unique=True, comment="The claim; an answer with another token is refused."),
    Column("claimed_at", Text, nullable=False, comment="When it was claimed."),
    Column("started_at", Text, comment="When its worker had begun on it: from then on it counts."),
    Column("finished_at", Text, comment="When it ended; NULL while it is open."),
    Column("outcome", Text, comment="succeeded, failed, superseded, orphaned or released."),
    Column("kind", Text, comment="Kind of the failure."),
    Column("reason", Text, comment="The reason in a sentence."),
    Column("charged", Integer, nullable=False, server_default=text("0"), comment="1 where it counts."),
    comment="One row for each try of a job in a launch.",
)

#: The one definition of an attempt that has not ended; as text it is the same condition in SQL.
OPEN_ATTEMPT = attempts.c.outcome.is_(None)

launches = Table(
    "launches",
    metadata,
    Column("id", Text, primary_key=True, comment="Name of the launch and of its folder."),
    Column("owner", Text, nullable=False, comment="Host, boot and pid of the daemon that started it."),
    Column("instance_id", Text, comment="Id of the state folder of the daemon that started it."),
    Column(
        "lease_expires_at", Text, comment="On a database server: until when the daemon's claim holds; NULL on SQLite."
    ),
    Column("executor", Text, nullable=False, comment="local or slurm."),
    Column("folder", Text, nullable=False, comment="Request, outcomes and log."),
    Column("device", Text, nullable=False, comment="Where it ran."),
    Column("world_size", Integer, nullable=False, comment="Processes."),
    Column("pid", Integer, comment="Process id of torchrun."),
    Column("pid_start", BigInteger, comment="Start time of that process, so that a reused pid is not taken for it."),
    Column("external_id", Text, comment="Slurm's job id."),
    Column("started_at", Text, nullable=False, comment="Start."),
    Column("finished_at", Text, comment="End."),
    Column("exit_code", Integer, comment="What torchrun ended with: a hint only."),
    Column("reason", Text, comment="Why it ended."),
    comment="One row for each torchrun process tree.",
)
