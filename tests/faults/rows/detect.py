"""Rows 201 to 220: detect. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    201: (
        "P9",
        "one file that waits through 5,000 probes",
        ("test_a_file_that_waits_for_days_is_probed_every_half_minute_and_overflows_nothing",),
    ),
    202: (
        "P1",
        "the spool lies on another file system",
        ("test_a_file_is_pinned_across_file_systems", "test_the_refusal_names_the_real_reason"),
    ),
    203: (
        "P3",
        "a file grows across several scans",
        ("test_a_file_that_grows_across_scans_loses_nothing_and_a_registered_one_that_changes_does",),
    ),
    204: (
        "P1",
        "a name is renamed before it is quiet, with and without events",
        (
            "test_a_name_renamed_before_it_is_quiet_goes_on_under_its_new_name_without_a_failure",
            "test_a_rename_that_no_event_told_is_recognised_by_the_next_scan",
            "test_a_rename_to_a_name_that_is_not_watched_says_so",
        ),
    ),
    205: (
        "P1",
        "links into a blob store",
        (
            "test_a_link_into_a_blob_store_is_rejected_with_the_command_that_evaluates_it",
            "test_a_link_out_of_the_folder_is_rejected_with_the_command_that_evaluates_it",
        ),
    ),
    206: (
        "P9",
        "an unforeseen error while one file is probed, or in a scan",
        (
            "test_an_unforeseen_error_about_one_file_costs_that_file_only",
            "test_a_scan_that_fails_unforeseen_is_reported_and_scanning_goes_on",
        ),
    ),
    207: (
        "P9",
        "`--once` on a file whose ready marker never comes",
        ("test_a_single_pass_does_not_wait_for_a_marker_that_never_comes",),
    ),
    208: (
        "P3",
        "the last write goes through a shared mapping, which changes no time",
        (
            "test_a_last_write_through_a_mapping_comes_before_the_file_is_taken",
            "test_a_writer_is_seen_by_its_handle_or_its_mapping_and_a_reader_is_not",
            "test_a_handle_that_is_never_closed_delays_a_complete_file_no_longer_than_an_incomplete_one",
            "test_the_question_leaves_no_lease_and_no_signal_behind",
        ),
    ),
    209: (
        "P1",
        "database and state folder are moved together while copies are pinned",
        ("test_copies_are_kept_and_found_after_database_and_state_folder_were_moved_together",),
    ),
    210: (
        "P1",
        "a checkpoint folder while it is written, renamed into place, or without one of its shards",
        (
            "test_a_trainer_s_folder_is_one_checkpoint_and_complete_with_its_last_file",
            "test_a_folder_renamed_into_place_is_one_checkpoint_under_its_final_name",
            "test_a_folder_that_is_a_candidate_goes_on_under_its_new_name",
            "test_a_missing_shard_is_named_and_given_up_with_that_reason_in_the_end",
        ),
    ),
    211: (
        "P3",
        "a trainer deletes a checkpoint folder file by file, before and after it is evaluated",
        (
            "test_a_registered_folder_that_is_deleted_file_by_file_is_no_failure",
            "test_a_folder_is_pinned_as_a_whole_without_the_optimizer",
            "test_a_trainer_with_save_total_limit_2_gets_a_row_for_every_checkpoint",
            "test_a_folder_with_its_model_in_one_file_is_loaded_as_that_file_and_missed_when_it_goes",
        ),
    ),
    212: (
        "P3",
        "one shard of a registered folder is rewritten",
        ("test_one_rewritten_shard_is_another_version_of_the_folder",),
    ),
    213: (
        "P1",
        "a refused version is rotated away before a factory is there; the spool fills with refused versions",
        (
            "test_a_file_refused_and_rotated_away_is_evaluated_once_a_factory_is_there",
            "test_refused_copies_give_way_to_new_ones_the_oldest_first_and_after_those_that_nothing_needs",
        ),
    ),
}
