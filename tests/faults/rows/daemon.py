"""Rows 181 to 200: daemon. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    181: ("P14", "two daemons on one database file under two names: hard link, bind mount", ("test_the_database_lock_holds_for_every_name_of_the_file_and_leaves_sqlite_alone",)),
    182: ("P11", "settings reloaded while the database is locked", ("test_settings_that_cannot_be_applied_yet_leave_everything_as_it_was_and_are_tried_again",)),
    183: ("P21", "the state folder removed under the daemon", ("test_a_lock_file_that_was_removed_or_replaced_is_noticed",)),
    184: ("P20", "many files that are slow to probe, under a watchdog", ("test_a_tick_reports_before_every_probe_and_leaves_the_rest_to_the_next_one",)),
    185: ("P21", "queued jobs of a run that is no longer watched", ()),
    186: ("P21", "`status` by a user who may not enter the state folder", ("test_a_lock_without_permission_is_neither_held_nor_free", "test_a_daemon_is_judged_from_outside")),
    187: ("P18", "`launch.env` changed by a reload", ()),
    188: ("P9", "temporary folders of torchrun and its ranks", ()),
    189: ("P11", "an order for 300,000 jobs", ("test_an_order_for_300_000_jobs_is_one_change",)),
    190: ("P10", "`eval` and `run --once` while every GPU is full", ()),
    191: ("P1", "`every` and the last checkpoint of a training", ("test_a_running_daemon_queues_the_last_checkpoint_when_the_trainer_has_stopped", "test_the_newest_is_due_once_no_other_has_come_for_twice_the_longest_interval")),
    192: ("P21", "an unforeseen exception about one run", ("test_a_part_that_fails_is_paused_longer_each_time_and_heals", "test_the_database_the_lock_and_the_settings_pass_through")),
    193: ("P5", "an answer that cannot be recorded", ()),
    194: ("P14", "orders from a folder without the settings file, to a daemon with a chosen state folder", ("test_the_state_folder_is_the_running_daemons_then_the_chosen_then_the_one_beside",)),
    195: ("P21", "a state folder that is a file; a deleted working folder", ()),
    196: ("P21", "an order that cannot be carried out", ()),
    197: ("P12", "a user's edits, VACUUM, WAL switch, own tables and triggers while the daemon runs", ()),
    198: (
        "P2",
        "kill -9 in the middle of a task",
        ("test_a_killed_task_gives_one_row_and_a_changed_file_only_its_own_cells",),
    ),
    199: (
        "P2",
        "kill -9 while texts are generated",
        (
            "test_losses_come_first_and_a_killed_daemon_leaves_one_row_for_each_checkpoint_and_prompt",
            "test_recording_twice_leaves_one_row_for_each_prompt_and_a_void_token_leaves_none",
        ),
    ),
    200: (
        "P21",
        "samples that fail, or that a checkpoint finds running",
        (
            "test_a_failed_sample_is_no_failure_of_the_run_and_takes_no_loss_away",
            "test_a_checkpoint_that_comes_while_texts_are_generated_gets_its_loss_first",
            "test_samples_are_given_back_unread_while_a_checkpoint_waits_for_its_loss",
        ),
    ),
}  # fmt: skip
