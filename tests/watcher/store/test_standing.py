"""Which version of a step is shown, everywhere alike: views, rows of reports, pages; and never a mean among them."""

from __future__ import annotations

from sqlalchemy import text

from tests.support.database import Database
from watcher.store.read.panels import Panels
from watcher.store.read.results import ResultFilter, result_rows


def two_files_of_one_step(database: Database) -> None:
    """`old.pt` was written last and observed first: an older file was put back beside it."""
    database.run()
    database.eval_set()
    late, early = "2026-01-02T00:00:00.000000Z", "2026-01-01T00:00:00.000000Z"
    database.checkpoint(10, path="old.pt", digest="d1", observed_at=early, saved_at=late)
    database.checkpoint(10, path="back.pt", digest="d2", observed_at=late, saved_at=early)
    database.result(10, 2.0, checkpoint="back.pt", checkpoint_digest="d2", saved_at=early)
    database.result(10, 3.0, checkpoint="old.pt", checkpoint_digest="d1", saved_at=late)


def newest_and_lowest(panels: Panels, cell: dict) -> tuple[float, float]:
    """What the overview and /metrics take for the newest and the best result."""
    rows = panels.results_by_id([cell["observed"], cell["lowest"]])
    return rows[cell["observed"]]["loss"], rows[cell["lowest"]]["loss"]


def test_the_version_observed_last_is_shown_whatever_its_time_and_whenever_it_was_evaluated(tmp_path):
    database = Database(tmp_path / "r.db")
    two_files_of_one_step(database)
    with database.store.read() as tx:
        assert tx.execute(text("SELECT loss FROM curve")).scalars().all() == [2.0]
        assert tx.execute(text("SELECT loss FROM latest")).scalars().all() == [2.0]
    panels = Panels(database.store)
    assert [list(panels.points(cell, ("step", "loss"))["loss"]) for cell in panels.cells()] == [[2.0]]
    assert [newest_and_lowest(panels, cell) for cell in panels.cells()] == [(2.0, 2.0)]
    assert result_rows(database.store, ResultFilter(standing=True))[-1]["loss"] == 2.0
    database.close()


def test_a_mean_of_checkpoints_stands_in_no_curve_and_is_the_best_of_its_own_kind_only(tmp_path):
    database = Database(tmp_path / "r.db")
    two_files_of_one_step(database)
    database.result(10, 1.0, checkpoint="back.pt#mean5", checkpoint_digest="m", weights="mean of the last 5")
    with database.store.read() as tx:
        assert tx.execute(text("SELECT loss FROM curve")).scalars().all() == [2.0]
        best = tx.execute(text("SELECT weights, loss FROM best ORDER BY loss")).all()
    assert [tuple(row) for row in best] == [("mean of the last 5", 1.0), (None, 2.0)]
    panels = Panels(database.store)
    assert [newest_and_lowest(panels, cell) for cell in panels.cells()] == [(2.0, 2.0)]
    database.close()
