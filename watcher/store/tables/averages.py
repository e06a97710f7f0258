"""Means of checkpoints: each is one more version (a row of `checkpoints` with `weights`), made of members."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Float, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from watcher.store.tables.base import Key, metadata

averages = Table(
    "averages",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("spec", Text, nullable=False, comment="What was asked for: `mean5`, `ema0.99`."),
    Column("weights", Text, nullable=False, comment="As in `results`: what the mean's rows say."),
    Column("newest_id", Key, ForeignKey("checkpoints.id"), nullable=False, comment="The newest member."),
    Column("path", Text, nullable=False, comment="The newest member's path with `#` and the spec, as in `results`."),
    Column("digest", Text, nullable=False, comment="Digest of the members and their weights, in order."),
    Column(
        "checkpoint_id",
        Key,
        ForeignKey("checkpoints.id"),
        comment="The mean as a checkpoint version, which jobs refer to; NULL while it waits for members.",
    ),
    Column(
        "state",
        Text,
        nullable=False,
        comment="waiting: fewer members than asked for; ready: jobs exist; final: all have ended and the members are "
        "released; superseded: a member was.",
    ),
    Column("reason", Text, comment="Why it waits, or why it no longer stands."),
    Column("at", Text, nullable=False, comment="When it was planned."),
    UniqueConstraint("run", "spec", "newest_id", "digest", name="uq_averages_members"),
    UniqueConstraint("checkpoint_id"),
    CheckConstraint("state IN ('waiting', 'ready', 'final', 'superseded')", name="state"),
    CheckConstraint("state NOT IN ('ready', 'final') OR checkpoint_id IS NOT NULL", name="ready_has_checkpoint"),
    Index(None, "run", "state"),
    comment="Means of checkpoints: one for each newest member and specification.",
)

average_members = Table(
    "average_members",
    metadata,
    Column("average_id", Key, ForeignKey("averages.id", ondelete="CASCADE"), primary_key=True, comment="The mean."),
    Column("position", Integer, primary_key=True, autoincrement=False, comment="0 is the newest member."),
    Column("checkpoint_id", Key, ForeignKey("checkpoints.id"), nullable=False, comment="The member."),
    Column("weight", Float, nullable=False, comment="Its weight; the weights of a mean add up to 1."),
    UniqueConstraint("average_id", "checkpoint_id"),
    Index(None, "checkpoint_id"),
    comment="The members of each mean: they stay pinned until it is final.",
)
