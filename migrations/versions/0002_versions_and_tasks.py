"""What a number belongs to: model and content digests, versions in order of observation; tasks, means, samples, notes.

On SQLite tables are made anew: foreign keys must be off (watcher.store.migrate sees to it), or dropping the old
`results` would delete all windows. The id of a deleted result is never used again from here on.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEW_RESULTS = (
    ("task", sa.Text()),
    ("items", sa.BigInteger()),
    ("accuracy", sa.Float()),
    ("accuracy_norm", sa.Float()),
    ("accuracy_stderr", sa.Float()),
    ("random_baseline", sa.Float()),
    ("weights", sa.Text()),
    ("model_digest", sa.Text()),
    ("content_digest", sa.Text()),
    ("family", sa.Text()),
    ("assumed", sa.Text()),
)
_JOB_CHECKS = (
    ("running_has_token", "(state = 'running') = (token IS NOT NULL)"),
    ("final_has_finished_at", "(state IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)"),
    ("state", "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')"),
    ("ended_has_kind", "state NOT IN ('failed', 'cancelled') OR kind IS NOT NULL"),
)


def upgrade() -> None:
    _checkpoints()
    _jobs()
    _results()
    _eval_sets()
    _behind_results()
    _averages()
    _page()
    op.alter_column("launches", "home", new_column_name="instance_id")


def _key() -> sa.types.TypeEngine:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _checkpoints() -> None:
    for name, kind in (
        *(("assumed", sa.Text()), ("sidecars", sa.Text()), ("model_settings", sa.Text())),
        *(("content_digest", sa.Text()), ("changed_at", sa.Text()), ("weights", sa.Text())),
    ):
        op.add_column("checkpoints", sa.Column(name, kind, nullable=True))
    op.add_column("checkpoints", sa.Column("model_digest", sa.Text(), server_default="", nullable=False))
    op.add_column("checkpoints", sa.Column("undone", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("checkpoints", sa.Column("observed_at", sa.Text(), nullable=True))
    op.execute("UPDATE checkpoints SET observed_at = registered_at")
    with op.batch_alter_table("checkpoints") as table:
        table.alter_column("observed_at", existing_type=sa.Text(), nullable=False)
    index = op.f("ix_checkpoints_run_checkpoints_observed_at")
    op.create_index(index, "checkpoints", ["run", "observed_at"], unique=False)


def _jobs() -> None:
    checks = [sa.CheckConstraint(rule, name=op.f(f"ck_jobs_{name}")) for name, rule in _JOB_CHECKS]
    with op.batch_alter_table("jobs", table_args=checks) as table:
        table.add_column(sa.Column("model_digest", sa.Text(), server_default="", nullable=False))
        table.add_column(sa.Column("again", sa.Integer(), server_default=sa.text("0"), nullable=False))
        table.drop_constraint("uq_jobs_checkpoint_id_eval_set_id", type_="unique")
        table.create_unique_constraint(
            op.f("uq_jobs_checkpoint_id_eval_set_id_model_digest"), ["checkpoint_id", "eval_set_id", "model_digest"]
        )


def _results() -> None:
    check = sa.CheckConstraint("finite = 0 OR loss IS NOT NULL", name=op.f("ck_results_finite_has_loss"))
    key = ("run", "checkpoint", "checkpoint_digest", "content_digest", "model_digest", "eval_set", "eval_digest")
    with op.batch_alter_table("results", table_args=[check], table_kwargs={"sqlite_autoincrement": True}) as table:
        for name, kind in _NEW_RESULTS:
            table.add_column(sa.Column(name, kind, nullable=True))
        table.alter_column("stride", existing_type=sa.Integer(), nullable=True)
        name = op.f(
            "uq_results_run_checkpoint_checkpoint_digest_eval_set_eval_digest"
        )  # op.f: PostgreSQL has 63 characters
        table.drop_constraint(name, type_="unique")
        table.create_unique_constraint(op.f("uq_results_version"), list(key))
    op.drop_index(op.f("ix_results_run_results_checkpoint_digest"), "results")
    same = ["run", "checkpoint_digest", "model_digest", "eval_digest", "content_digest"]
    op.create_index(op.f("ix_results_same_content"), "results", same, unique=False)


def _eval_sets() -> None:
    with op.batch_alter_table("eval_sets") as table:
        table.add_column(sa.Column("kind", sa.Text(), server_default="loss", nullable=False))
        table.add_column(sa.Column("suite", sa.Text(), nullable=True))
        table.create_check_constraint(op.f("ck_eval_sets_kind"), "kind IN ('loss', 'task', 'sample')")


def _behind_results() -> None:
    for name in ("position_nats", "position_targets", "spikes"):
        op.add_column("windows", sa.Column(name, sa.LargeBinary(), nullable=True))
    op.create_table(
        "task_items",
        sa.Column("result_id", _key(), nullable=False),
        sa.Column("scores", sa.LargeBinary(), nullable=False),
        *(sa.Column(name, sa.Float()) for name in ("accuracy_norm_stderr", "bits_per_byte_stderr", "ppl_item")),
        sa.ForeignKeyConstraint(
            ["result_id"], ["results.id"], name=op.f("fk_task_items_result_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("result_id", name=op.f("pk_task_items")),
    )


def _averages() -> None:
    op.create_table(
        "averages",
        sa.Column("id", _key(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("run", "spec", "weights")),
        sa.Column("newest_id", _key(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("path", "digest")),
        sa.Column("checkpoint_id", _key(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["newest_id"], ["checkpoints.id"], name=op.f("fk_averages_newest_id")),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_averages_checkpoint_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_averages")),
        sa.UniqueConstraint("run", "spec", "newest_id", "digest", name=op.f("uq_averages_members")),
        sa.UniqueConstraint("checkpoint_id", name=op.f("uq_averages_checkpoint_id")),
        sa.CheckConstraint("state IN ('waiting', 'ready', 'final', 'superseded')", name=op.f("ck_averages_state")),
        sa.CheckConstraint(
            "state NOT IN ('ready', 'final') OR checkpoint_id IS NOT NULL",
            name=op.f("ck_averages_ready_has_checkpoint"),
        ),
    )
    op.create_index(op.f("ix_averages_run_averages_state"), "averages", ["run", "state"], unique=False)
    op.create_table(
        "average_members",
        sa.Column("average_id", _key(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checkpoint_id", _key(), nullable=False),
        sa.Column("weight", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["average_id"], ["averages.id"], name=op.f("fk_average_members_average_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_average_members_checkpoint_id")),
        sa.PrimaryKeyConstraint("average_id", "position", name=op.f("pk_average_members")),
        sa.UniqueConstraint("average_id", "checkpoint_id", name=op.f("uq_average_members_average_id_checkpoint_id")),
    )
    op.create_index(op.f("ix_average_members_checkpoint_id"), "average_members", ["checkpoint_id"], unique=False)


def _page() -> None:
    op.create_table(
        "annotations",
        sa.Column("id", _key(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("checkpoint_id", _key(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("kind", "text", "at")),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_annotations_checkpoint_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_annotations")),
        sa.CheckConstraint("kind IN ('note', 'tag')", name=op.f("ck_annotations_kind")),
    )
    index = op.f("ix_annotations_run_annotations_checkpoint_id")
    op.create_index(index, "annotations", ["run", "checkpoint_id"], unique=False)
    op.create_table(
        "samples",
        sa.Column("id", _key(), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("checkpoint_id", _key(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("digest", "model_digest")),
        sa.Column("content_digest", sa.Text(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=False) for name in ("prompt", "mode")),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("temperature", sa.Float(), nullable=True),
        sa.Column("top_k", sa.Integer(), nullable=True),
        sa.Column("top_p", sa.Float(), nullable=True),
        sa.Column("max_new_tokens", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("ended", sa.Text(), nullable=False),
        sa.Column("tokenizer", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_samples_checkpoint_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_samples")),
        sa.UniqueConstraint(
            "checkpoint_id", "name", "digest", "model_digest", "position", name=op.f("uq_samples_place")
        ),
        sa.CheckConstraint("mode IN ('greedy', 'sampled')", name=op.f("ck_samples_mode")),
    )
    op.create_index(op.f("ix_samples_run_samples_name"), "samples", ["run", "name"], unique=False)
