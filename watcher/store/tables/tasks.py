"""What stands behind a task's row of `results`: the scores of its items, and the scores without a column there."""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, LargeBinary, Table

from watcher.store.tables.base import Key, metadata

task_items = Table(
    "task_items",
    metadata,
    Column(
        "result_id",
        Key,
        ForeignKey("results.id", ondelete="CASCADE"),
        primary_key=True,
        comment="The row of `results`.",
    ),
    Column(
        "scores",
        LargeBinary,
        nullable=False,
        comment="Per item: row of the file, gold and chosen choice, nats of every choice; `evalcore.tasks.item_scores` "
        "unpacks it.",
    ),
    Column("accuracy_norm_stderr", Float, comment="Standard error of `accuracy_norm`."),
    Column("bits_per_byte_stderr", Float, comment="Standard error of `bits_per_byte`, over items."),
    Column("ppl_item", Float, comment="exp of the mean nats per item (LAMBADA's perplexity); NULL for other tasks."),
    comment="The items of a task's result, for paired comparisons, and its scores that `results` has no column for.",
)
