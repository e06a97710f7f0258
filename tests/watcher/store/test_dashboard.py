"""The dashboard's questions agree with the public views, and change their pulse when something is new."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.support.training import Training, training
from watcher.domain.timestamps import iso
from watcher.store.read.dashboard import Pages
from watcher.store.read.panels import Panels


@pytest.fixture
def made(tmp_path) -> Iterator[Training]:
    one = training(tmp_path, points=10)
    one.database.checkpoint(5000, "gpt-124m", "again.pt", digest="sha256:again")
    one.database.result(5000, 3.0, "gpt-124m", "fineweb", checkpoint="again.pt", checkpoint_digest="sha256:again")
    one.database.result(2500, 1.0, "gpt-124m", "fineweb", superseded=1, checkpoint_digest="sha256:old")
    one.database.result(2500, 0.5, "gpt-124m", "fineweb", eval_digest="sha256:another definition")
    yield one
    one.database.close()


def view(made: Training, name: str, columns: str) -> set[tuple]:
    with made.database.store.read() as tx:
        return {tuple(row) for row in tx.execute(text(f"SELECT {columns} FROM {name}"))}


@pytest.mark.parametrize(("name", "keys"), [("best", ("lowest",)), ("latest", ("observed", "saved"))])
def test_the_lowest_and_the_newest_result_of_a_cell_are_those_of_the_views(made, name, keys):
    cells = Panels(made.database.store).cells()
    found = {(cell["run"], cell["eval_set"], next(filter(None, (cell[key] for key in keys)))) for cell in cells}
    assert found == view(made, name, "run, eval_set, id")
    assert len(found) == 4


def test_the_points_of_panels_are_the_view_curve(made):
    panels, points = Panels(made.database.store), set()
    for cell in panels.cells():
        columns = panels.points(cell, ("step", "loss"))
        points |= {(cell["run"], cell["eval_set"], *pair) for pair in zip(*columns.values(), strict=True)}
    assert points == view(made, "curve", "run, eval_set, step, loss")
    assert ("gpt-124m", "fineweb", 5000, 3.0) in points


def test_the_pulse_beats_for_whatever_a_page_could_show(made):
    pages = Pages(made.database.store)
    seen = [pages.pulse()]
    made.database.result(9000, 3.0, "gpt-124m", "fineweb")
    seen.append(pages.pulse())
    number = made.database.checkpoint(9500, "gpt-124m")
    seen.append(pages.pulse())
    job = made.database.job(number, "queued", "gpt-124m", "fineweb")
    seen.append(pages.pulse())
    with made.database.store.write() as tx:
        ended = {"at": iso(2e9), "id": job}
        tx.execute(text("UPDATE jobs SET state='failed', kind='crash', finished_at=:at WHERE id=:id"), ended)
    seen.append(pages.pulse())
    assert len(set(seen)) == len(seen)
    assert pages.pulse() == seen[-1]
