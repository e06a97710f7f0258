"""Faults of the page found in a browser, and of those who read the database. Number -> (promise, what was done, the tests that show it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    441: (
        "P21",
        "an answer to the page that is cut off; a run lit up before anything was drawn anew",
        (
            "test_an_answer_that_is_cut_off_is_no_error_of_the_page_and_is_asked_for_again",
            "test_a_run_is_lit_up_over_the_whole_panel_also_when_nothing_was_drawn_since_the_page_was_opened",
        ),
    ),
    442: (
        "P21",
        "a comparison of more pairs than are shown, which left out whole sets",
        ("test_three_runs_are_compared_with_the_first_on_every_set_and_shared_step",),
    ),
    443: (
        "P11",
        "a reader that comes in the moment in which a commit begins",
        ("test_a_reader_beside_a_process_that_commits_without_pause_is_never_told_that_it_cannot_read",),
    ),
    444: (
        "P11",
        "a writer killed in the middle of a commit beside a dashboard that stays open",
        ("test_a_reader_that_stays_open_goes_on_when_a_writer_was_killed_in_the_middle_of_a_commit",),
    ),
}
