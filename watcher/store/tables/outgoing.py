"""What leaves the database: events and the outbox of the sinks."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, UniqueConstraint, text

from watcher.store.tables.base import Key, metadata

events = Table(
    "events",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("at", Text, nullable=False, comment="When."),
    Column("name", Text, nullable=False, comment="Name of the event."),
    Column("run", Text, comment="Name of the run."),
    Column("detail", Text, nullable=False, comment="JSON: the facts."),
    Index(None, "name", "at"),
    comment="What happened, for the dashboard and for alerts.",
)

exports = Table(
    "exports",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("sink", Text, nullable=False, comment="Name of the sink."),
    Column("kind", Text, nullable=False, comment="result, failure, file or event."),
    Column("subject_id", BigInteger, nullable=False, comment="The row that is sent."),
    Column("state", Text, nullable=False, comment="pending, done or gave_up."),
    Column("tries", Integer, nullable=False, server_default=text("0"), comment="How often it was tried."),
    Column("error", Text, comment="What went wrong last."),
    Column("not_before", Text, comment="Not to be tried earlier."),
    Column("enqueued_at", Text, nullable=False, comment="When it was put in."),
    Column("done_at", Text, comment="When it was sent."),
    UniqueConstraint("sink", "kind", "subject_id"),
    Index(None, "state", "sink"),
    comment="The outbox: which rows each sink has been sent, and which wait.",
)
