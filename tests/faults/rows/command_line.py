"""Rows 261 to 280: command line. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    261: ("P21", "the working folder was deleted", ("test_a_deleted_working_folder_is_named", "test_version_and_help_need_no_working_folder")),
    262: ("P12", "database URLs that name no database: `sqlite://`, `://`, another engine", ("test_a_url_that_is_no_database_is_refused_before_anything_is_created", "test_another_database_engine_is_refused", "test_a_password_in_a_url_that_cannot_be_read_is_not_shown")),
    263: ("P12", "a folder as database", ("test_a_folder_as_database_is_refused_with_a_name_for_the_file",)),
    264: ("P22", "`~nosuchuser`; a user id without a home folder", ("test_the_home_of_an_unknown_user_in_the_settings_is_refused", "test_a_user_id_without_a_home_is_named_where_a_home_is_needed")),
    265: ("P22", "a folder as settings file", ("test_a_folder_as_settings_file_is_refused_with_the_file_in_it",)),
    266: ("P11", "stdout closed, full, or left by its reader", ("test_a_reader_of_stdout_that_leaves_early_is_no_error", "test_a_closed_stdout_is_no_error", "test_a_full_device_behind_stdout_is_named")),
    267: ("P12", "text in a number column of `results`", ("test_text_in_a_number_column_is_refused_with_row_column_and_the_correction",)),
    268: ("P12", "dropped views", ("test_verbs_do_not_need_the_views",)),
    269: ("P21", "an exception that no verb foresaw", ("test_an_unforeseen_exception_is_one_sentence_and_its_traceback_is_in_a_file", "test_where_no_file_can_be_written_the_traceback_is_on_stderr")),
    270: ("P21", "failed jobs that cannot be named", ("test_failed_jobs_are_listed_with_the_number_that_retry_and_logs_take",)),
    271: ("P21", "two runs with files of one name", ("test_log_lines_of_two_runs_with_files_of_one_name_differ", "test_every_event_about_a_file_names_its_run")),
    272: ("P21", "a verdict of `compare` wider than the terminal", ("test_the_verdict_is_whole_on_a_narrow_terminal",)),
    273: ("P1", "`run --dir out`, then `init out` and `run`: the same folder under two names", ("test_init_names_the_run_as_run_without_a_file_does",)),
    274: ("P21", "a wheel without a package that the checkout has", ("test_the_wheel_declares_every_package_and_every_data_file",)),
    275: ("P21", "one path copied for every version of a training", ("test_a_path_that_is_copied_again_is_new_work_with_its_own_start",)),
    276: ("P15", "an exception, sys.exit or a syntax error in a user's factory; an exception in its model's forward pass", ("test_an_error_in_the_user_s_code_is_unsupported_with_a_traceback_that_begins_there", "test_an_error_in_the_forward_pass_of_the_user_s_model_is_unsupported_too", "test_a_factory_that_works_one_that_is_not_causal_and_one_that_fails")),
    277: ("P15", "a context length that only a field of several meanings tells", ("test_a_context_that_only_a_field_of_several_meanings_tells_is_noted",)),
    278: ("P15", "a model whose loss contradicts the validation loss that the trainer logged", ("test_a_fork_whose_logged_loss_contradicts_ours_is_warned_about_everywhere", "test_a_contradiction_is_beyond_what_both_samples_explain")),
    279: ("P15", "settings of another type: numbers and truth values in quotes, a number for true, for every key", ("test_a_value_of_another_type_is_refused_by_every_key_that_it_does_not_fit", "test_numbers_and_truth_values_in_quotes_are_refused_in_files_and_read_from_variables")),
    280: ("P21", "`eval` on a folder of checkpoints, without its data file, on a file that is no known kind of data; one note in many rows", ("test_eval_of_a_folder_of_checkpoints_names_the_command_that_evaluates_them", "test_eval_without_its_data_file_is_status_4_as_without_its_checkpoint", "test_a_file_without_a_known_ending_says_how_it_was_read_and_others_do_not", "test_a_long_note_of_several_rows_stands_once_below_the_table")),
    281: ("P15", "`sample` beside a settings file that names a tokenizer, or several; a device or a configuration that is none", ("test_the_tokenizer_is_that_of_the_settings_file_where_no_flag_names_one", "test_settings_with_two_tokenizers_are_refused_with_the_flag_that_decides", "test_a_flag_without_meaning_is_refused_in_one_sentence", "test_a_device_or_a_configuration_that_is_none_is_refused_in_one_sentence")),
    282: ("P2", "one folder or file spelled `a/../a/out`, `a/out/`, through a link before `..`", ("test_a_path_has_one_spelling_and_keeps_its_links", "test_a_flag_and_a_settings_file_name_one_run_however_they_spell_its_folder", "test_one_file_under_two_spellings_is_evaluated_once")),
    283: ("P21", "jobs of samples among those that evaluate: in counts, in the time left, in metrics, in the log's backlog", ("test_samples_are_counted_apart_and_are_no_part_of_the_time_left", "test_a_failed_sample_is_no_failure_of_the_run_and_takes_no_loss_away")),
}  # fmt: skip
