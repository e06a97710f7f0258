"""What people and models wrote about checkpoints: annotations, samples."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)

from watcher.store.tables.base import Key, metadata

annotation_rows = Table(  # `annotations` is the future import
    "annotations",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("checkpoint_id", Key, ForeignKey("checkpoints.id"), comment="The checkpoint; NULL: it is about the run."),
    Column("kind", Text, nullable=False, comment="note or tag."),
    Column("text", Text, nullable=False, comment="The note, or the tag's name."),
    Column("at", Text, nullable=False, comment="When it was written."),
    CheckConstraint("kind IN ('note', 'tag')", name="kind"),
    Index(None, "run", "checkpoint_id"),
    comment="Notes and tags of runs and checkpoints, written through the page's inbox.",
)

samples = Table(
    "samples",
    metadata,
    Column("id", Key, primary_key=True, comment="Number."),
    Column("run", Text, nullable=False, comment="Name of the run."),
    Column("checkpoint_id", Key, ForeignKey("checkpoints.id"), nullable=False, comment="The checkpoint."),
    Column("name", Text, nullable=False, comment="Name of the [[sample]] section."),
    Column("position", Integer, nullable=False, comment="Number of the prompt in its section, from 0."),
    Column("digest", Text, nullable=False, comment="Digest of prompts, settings and tokenizer, as in `eval_sets`."),
    Column("model_digest", Text, nullable=False, comment="As in `results`."),
    Column("content_digest", Text, comment="As in `results`."),
    Column("prompt", Text, nullable=False, comment="The prompt."),
    Column("mode", Text, nullable=False, comment="greedy or sampled."),
    Column("seed", BigInteger, comment="Seed of a sampled text."),
    Column("temperature", Float, comment="Temperature of a sampled text."),
    Column("top_k", Integer, comment="Sampled from this many tokens only; NULL: from all."),
    Column("top_p", Float, comment="Sampled from the likeliest tokens with this probability; NULL: from all."),
    Column("max_new_tokens", Integer, nullable=False, comment="Most tokens to generate."),
    Column("text", Text, nullable=False, comment="The generated text, without the prompt; U+2400 stands for NUL."),
    Column("tokens", Integer, nullable=False, comment="Generated tokens."),
    Column("ended", Text, nullable=False, comment="Why it ended: length, end_of_text, stopped (time), not_finite."),
    Column("tokenizer", Text, comment="The tokenizer; NULL: the checkpoint folder's own."),
    Column("note", Text, comment="What is unusual about it."),
    Column("at", Text, nullable=False, comment="When it was recorded."),
    UniqueConstraint("checkpoint_id", "name", "digest", "model_digest", "position", name="uq_samples_place"),
    CheckConstraint("mode IN ('greedy', 'sampled')", name="mode"),
    Index(None, "run", "name"),
    comment="Texts that checkpoints generated from the prompts of `[[sample]]`.",
)
