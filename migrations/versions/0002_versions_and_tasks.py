"""What a number belongs to: model and content digests, versions in order of observation; columns for tasks.

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
    op.alter_column("launches", "home", new_column_name="instance_id")


def _checkpoints() -> None:
    for name, kind in (
        *(("assumed", sa.Text()), ("sidecars", sa.Text()), ("model_settings", sa.Text())),
        *(("content_digest", sa.Text()), ("changed_at", sa.Text())),
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
