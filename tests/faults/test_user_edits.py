"""What a user deletes or adds in the database by hand: nothing new is lost, and what cannot go on says so and heals."""

from __future__ import annotations

import signal

import pytest

from tests.support.daemon import wait_until
from tests.support.tiny import write_tiny


def test_row_371_a_deleted_row_of_checkpoints_leaves_no_job_to_the_next_checkpoint(site):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    here.start()
    here.wait_for_results(1)
    here.query_write("DELETE FROM checkpoints")  # foreign keys are off in a shell: its job stays, and names its id
    write_tiny(here.folder / "step_2.pt", 2)
    assert sorted(here.wait_for_results(2)) == ["step_1.pt", "step_2.pt"]


def test_row_371_a_deleted_eval_set_is_paused_for_named_and_measured_after_a_restart(site):
    here = site()
    write_tiny(here.folder / "step_1.pt", 1)
    process = here.start()
    here.wait_for_results(1)
    here.query_write("DELETE FROM eval_sets")
    write_tiny(here.folder / "step_2.pt", 2)
    wait_until(lambda: "the row of eval set 'val' was deleted" in str(here.health()))
    assert process.poll() is None and here.failures() == {}
    assert here.stop() == 0
    here.start()
    assert "step_2.pt" in here.wait_for_results(2)
    assert here.query("SELECT count(*) FROM curve WHERE step = 2") == [(1,)]


@pytest.mark.short
def test_row_372_a_trigger_that_names_a_missing_table_pauses_and_heals_and_no_number_is_lost(site):
    here = site()
    process = here.start()
    here.query_write("CREATE TABLE mine (id)")
    here.query_write("CREATE TRIGGER copied AFTER INSERT ON results BEGIN INSERT INTO mine VALUES (new.id); END")
    here.query_write("DROP TABLE mine")
    write_tiny(here.folder / "step_1.pt", 1)
    wait_until(lambda: "no such table: main.mine" in str(here.health()))
    assert process.poll() is None
    here.query_write("DROP TRIGGER copied")
    assert list(here.wait_for_results(1)) == ["step_1.pt"]
    here.assert_sound()
    assert here.stop() == 0


def test_row_373_settings_that_are_empty_at_a_reload_leave_the_old_ones(site):
    here = site()
    daemon, good = here.start(), here.config.read_text()
    here.config.write_text("")  # an editor that truncates the file before it writes
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "settings not reloaded, the old ones stay: no folder to watch" in here.log())
    here.config.write_text(good[: good.index("[[eval]]")])
    daemon.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old ones stay: no validation data" in here.log())
    write_tiny(here.folder / "step_1.pt", 1)
    here.wait_for_results(1)
    assert here.stop() == 0
