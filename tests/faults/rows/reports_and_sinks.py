"""Rows 241 to 260: reports and sinks. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    241: (
        "P2",
        "a CSV or JSONL file is cut off at every byte of its last row",
        (
            "test_a_write_cut_short_at_any_byte_is_completed_by_the_next_delivery",
            "test_a_line_that_was_cut_short_after_it_was_delivered_is_completed_with_the_next_result",
        ),
    ),
    242: (
        "P2",
        "two databases export into one CSV, JSONL or Parquet file",
        (
            "test_two_databases_export_into_one_file_and_no_row_is_lost_or_written_twice",
            "test_two_processes_that_append_to_one_file_at_once_leave_every_line_whole",
        ),
    ),
    243: (
        "P2",
        "a sink is called `alerts`, `../x` or `.hidden`",
        ("test_a_sink_whose_name_is_taken_or_no_folder_is_refused",),
    ),
    244: (
        "P2",
        "on a server a result with a lower id commits after the sweep",
        (
            "test_a_result_that_commits_late_with_a_lower_id_reaches_every_sink",
            "test_a_result_that_commits_late_with_a_lower_id_is_found_by_the_next_sweep",
        ),
    ),
    245: (
        "P17",
        "names with `=`, ESC, BEL or a line feed reach a CSV file",
        (
            "test_a_cell_that_a_spreadsheet_would_evaluate_begins_with_an_apostrophe",
            "test_hostile_names_reach_a_csv_file_as_text_on_one_line_and_are_recognised_again",
            "test_numbers_and_plain_names_are_not_changed_in_csv",
        ),
    ),
    246: (
        "P15",
        "one best link for several runs or sets",
        (
            "test_a_best_link_is_never_moved_by_the_loss_of_another_run_or_set",
            "test_one_best_link_for_several_runs_or_sets_is_refused_with_the_remedy",
            "test_a_set_that_was_redefined_starts_a_new_best",
        ),
    ),
    247: (
        "P13",
        "two runs are compared and one shared step is NaN",
        ("test_two_runs_are_compared_although_a_shared_step_is_not_finite",),
    ),
    248: (
        "P21",
        "a page raises an unforeseen error",
        ("test_the_error_of_a_page_is_in_the_log_with_its_traceback_and_the_page_says_so",),
    ),
    249: (
        "P17",
        "a failure's reason of 3 MB on the page, in its JSON and in events",
        (
            "test_an_alert_about_a_reason_of_megabytes_is_a_small_event",
            "test_a_reason_of_megabytes_costs_the_page_a_line",
            "test_a_text_of_megabytes_is_cut_and_says_by_how_much",
        ),
    ),
    250: (
        "P2",
        "the file a sink names belongs to another program",
        ("test_a_file_of_another_kind_is_not_written_into",),
    ),
    251: (
        "P21",
        "a new result while a part of a curve is looked at",
        ("test_new_results_come_by_themselves_and_move_neither_zoom_nor_filter_nor_ticks",),
    ),
    252: (
        "P21",
        "the page is loaded again, or its address is given to another person",
        ("test_a_reload_and_a_shared_link_show_the_same_view",),
    ),
    253: (
        "P21",
        "more than eight runs in one chart",
        (
            "test_colours_belong_to_a_run_and_at_least_twenty_are_told_apart",
            "test_a_run_keeps_its_colour_whatever_is_filtered_and_the_25th_has_another_line",
        ),
    ),
    254: (
        "P4",
        "two versions of one step, the one saved later observed earlier, in plots and comparisons",
        ("test_of_two_versions_of_a_step_the_one_observed_last_stands_though_it_was_saved_earlier",),
    ),
    255: (
        "P4",
        "a mean of checkpoints beside single ones in plots and `results --best`",
        ("test_a_mean_of_checkpoints_is_a_curve_of_its_own_and_never_the_best_of_the_raw_ones",),
    ),
    256: (
        "P1",
        "a set of several shards, a raw format or a factory in the command that reproduces a result",
        ("test_the_command_on_the_page_reproduces_a_number_of_two_shards_a_raw_format_and_a_factory",),
    ),
    257: (
        "P19",
        "a note sent to the page by another site, without the token, or too long",
        (
            "test_a_note_without_token_or_from_another_page_is_refused_and_leaves_nothing_behind",
            "test_only_one_path_takes_a_post_and_none_without_the_setting",
        ),
    ),
    258: (
        "P2",
        "the scores of a task's items arrive damaged; a suite lacks a member",
        (
            "test_items_that_arrive_damaged_leave_the_row_and_its_note",
            "test_a_suite_has_no_value_until_every_member_has_a_result",
        ),
    ),
    259: (
        "P21",
        "an address of the page with odd parameters, numbers of 25 digits, superscripts, NUL or names of any kind",
        (
            "test_a_page_is_shown_whatever_its_parameters_hold",
            "test_a_table_is_shown_whatever_its_sort_filter_and_page_are",
            "test_a_number_that_belongs_to_nothing_is_404_however_long_it_is",
            "test_runs_of_any_name_are_compared_and_a_name_that_is_no_run_is_answered_in_words",
        ),
    ),
    260: (
        "P21",
        "a note or tag written with a browser, which sends no Origin where the page's own policy hides the address",
        (
            "test_a_note_and_a_tag_are_written_and_removed_with_the_token_and_the_page_follows_by_itself",
            "test_a_note_with_another_token_is_refused_in_words",
        ),
    ),
}
