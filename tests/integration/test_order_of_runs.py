"""Several runs of one daemon: each by its own order, in turn, and none waits behind another's whole backlog."""

from __future__ import annotations

import json

import pytest

from tests.support.daemon import Site, wait_until
from tests.support.orders import fill_order
from tests.support.tiny import write_tiny

STEPS = list(range(10, 90, 10))


class TwoRuns(Site):
    """Runs `run` and `other`, each with a backlog; all of `other` was saved after all of `run`."""

    def __init__(self, root, orders: tuple[str, str]) -> None:
        super().__init__(root, run={"order": orders[0]})
        folder = root / "other"
        folder.mkdir()
        head = f'[[run]]\nname = "other"\ndir = {json.dumps(str(folder))}\norder = "{orders[1]}"\n'
        self.config.write_text(f"{head}settle_s = 0.2\nscan_s = 0.5\n\n{self.config.read_text()}")
        for step in STEPS:
            write_tiny(self.folder / f"step_{step}.pt", step, "run")
        for step in STEPS:
            write_tiny(folder / f"step_{step}.pt", step, "other")
        self.state.mkdir(exist_ok=True)
        (self.state / "paused").touch()
        self.start()
        self.wait_for_job("queued", 2 * len(STEPS))

    def claims(self) -> list[tuple[str, int]]:
        """(run, step) in the order in which they were claimed."""
        return self.query(
            "SELECT j.run, c.step FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN checkpoints c"
            " ON c.id = j.checkpoint_id ORDER BY a.id"
        )

    def go(self) -> list[tuple[str, int]]:
        assert self.cli("queue", "resume").returncode == 0
        self.wait_for_results(2 * len(STEPS))
        return self.claims()


def by(order: str) -> list[int]:
    return {"newest": STEPS[::-1], "oldest": STEPS, "fill": fill_order(STEPS, [])}[order]


@pytest.mark.parametrize("orders", [("fill", "fill"), ("fill", "newest"), ("newest", "oldest")])
def test_runs_come_in_turn_each_by_its_own_order(tmp_path, orders):
    site = TwoRuns(tmp_path, orders)
    try:
        claims = site.go()
        for run, order in zip(("run", "other"), orders, strict=True):
            assert [step for name, step in claims if name == run] == by(order)
        assert all({name for name, _ in claims[at : at + 2]} == {"run", "other"} for at in range(0, len(claims), 2))
        assert site.stop() == 0
    finally:
        site.end()


def test_what_a_person_bumped_goes_before_every_order(tmp_path):
    site = TwoRuns(tmp_path, ("fill", "fill"))
    try:
        [(job,)] = site.query(
            "SELECT j.id FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id WHERE j.run = 'other' AND c.step = 30"
        )
        assert site.cli("queue", "bump", str(job)).returncode == 0
        wait_until(lambda: site.query("SELECT max(priority) FROM jobs") == [(1,)])
        assert site.go()[0] == ("other", 30)
        assert site.stop() == 0
    finally:
        site.end()
