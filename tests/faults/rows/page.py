"""Faults of the page found in a browser, and of those who read the database. Number -> (promise, what was done, the tests that show it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    436: (
        "P21",
        "a request of the page, its panels, its best points or its event stream refused once; a change in the moment in which"
        " the event stream opens; a pulse of the event stream that fails",
        (
            "test_each_request_that_is_refused_once_is_asked_again_long_before_the_minute_is_over",
            "test_a_change_right_after_the_hello_is_told",
            "test_a_pulse_that_fails_is_a_change_and_the_next_one_is_told_too",
        ),
    ),
    437: (
        "P21",
        "a drag on a page too slow to tell it from a click by time; a double click that opened a checkpoint",
        ("test_a_drag_on_a_slow_page_zooms_a_click_opens_and_a_double_click_only_ends_the_zoom",),
    ),
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
        ("test_a_reader_that_meets_the_first_moment_of_a_commit_looks_again",),
    ),
    444: (
        "P11",
        "a writer killed in the middle of a commit beside a dashboard that stays open",
        ("test_a_reader_that_stays_open_goes_on_when_a_writer_was_killed_in_the_middle_of_a_commit",),
    ),
}
