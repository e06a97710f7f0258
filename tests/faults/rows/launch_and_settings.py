"""Rows 221 to 240: launch and settings. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    221: (
        "P15",
        "settings that cannot be meant: true as a number, NaN, a stride beyond the window, bad globs and markers",
        (
            "test_a_setting_that_cannot_be_meant_is_refused_with_its_place_and_reason",
            "test_a_file_of_another_shape_is_refused_with_its_place_and_reason",
            "test_flags_laid_over_the_file_are_checked_like_the_file",
        ),
    ),
    222: (
        "P15",
        "variables that set nothing, a literal `~`, variables of a Kubernetes service",
        (
            "test_a_home_is_expanded_in_variables_and_an_unknown_variable_is_refused",
            "test_the_variables_of_a_kubernetes_service_named_ckptwatch_are_no_settings",
        ),
    ),
    223: (
        "P15",
        "no HOME for an unknown uid; folders and in-memory URLs as the database",
        (
            "test_without_a_home_for_an_unknown_user_there_is_a_sentence_and_no_traceback",
            "test_the_default_database_of_a_user_without_a_home_is_refused_with_the_remedy",
        ),
    ),
    224: (
        "P15",
        "a model configuration with dates, NaN, or nested 100,000 deep",
        ("test_a_model_configuration_file_is_checked_like_a_table",),
    ),
    225: (
        "P1",
        "Slurm's batch script in folders with spaces, quotes, `$`, `%`, newlines and other bytes",
        (
            "test_the_batch_script_runs_in_a_folder_of_any_name",
            "test_several_nodes_meet_at_a_quoted_address",
            "test_a_folder_that_slurm_cannot_write_to_is_refused",
        ),
    ),
    226: ("P9", "sbatch prints nine megabytes", ("test_a_flood_from_sbatch_is_bounded",)),
    227: (
        "P14",
        "a busy GPU without nvidia-ml-py, two launches at once, the daemon's own CUDA_VISIBLE_DEVICES",
        (
            "test_a_gpu_that_a_process_uses_is_busy_without_nvml_too",
            "test_a_gpu_whose_processes_are_hidden_is_busy_by_its_memory",
            "test_a_launch_gets_the_freest_gpus_that_are_allowed_visible_and_not_taken",
            "test_where_no_gpu_can_be_had_the_reason_is_given",
        ),
    ),
    228: (
        "P14",
        "`when = after_training` while a trainer only restarts",
        (
            "test_after_training_waits_until_the_gpu_was_unused_for_minutes_and_not_only_between_two_runs",
            "test_after_training_trusts_nothing_about_a_time_in_which_it_did_not_look",
        ),
    ),
    229: (
        "P14",
        "`data stats`, `init` or `doctor` is killed while it reads a large file",
        ("test_a_data_command_ends_with_the_process_that_runs_it",),
    ),
    230: (
        "P15",
        "a file that holds items of a task and text; files of different tasks in one set; a flag that means nothing there",
        (
            "test_a_file_that_is_both_is_refused_until_one_of_them_is_named",
            "test_files_of_different_kinds_do_not_make_one_set",
            "test_what_has_no_meaning_for_a_task_is_refused",
            "test_a_flag_without_a_set_that_it_means_anything_for_is_refused",
        ),
    ),
    231: (
        "P10",
        "on an accelerator: a tensor left on the host, a copy or a wait in every window, weights held in two precisions",
        (
            "test_every_family_gives_the_value_of_the_cpu_and_the_host_waits_once_a_batch",
            "test_tasks_give_the_scores_of_the_cpu_and_the_host_waits_once_a_batch",
            "test_linear_weights_loaded_in_bfloat16_measure_what_casting_them_would",
            "test_weights_are_loaded_lower_only_where_every_measurement_is_in_that_dtype",
        ),
    ),
    232: (
        "P2",
        "kill -9 while the next file is read ahead; a file ahead that is broken, gone or larger than the spare memory",
        (
            "test_killed_while_the_next_file_is_read_ahead_nothing_is_lost_and_only_the_first_attempt_is_charged",
            "test_what_cannot_be_read_ahead_is_left_to_its_load",
            "test_where_memory_is_not_spare_nothing_is_read_ahead",
        ),
    ),
    233: (
        "P10",
        "a list of GPUs that CUDA cuts short; slices for several ranks; a driver of another version than its library; a "
        "container or Slurm job without a GPU on a node that has some",
        (
            "test_a_list_that_cuda_cuts_short_or_empties_shows_no_more_gpus_here",
            "test_a_list_that_leaves_no_gpu_is_said_and_never_changes_the_device_in_silence",
            "test_a_launch_of_several_ranks_gets_no_slices_of_a_gpu",
            "test_a_driver_of_another_version_than_its_library_is_said_in_its_own_words",
            "test_a_driver_without_a_gpu_for_this_process_is_no_gpu_and_no_problem",
            "test_a_container_that_was_given_no_gpu_is_a_machine_without_one",
            "test_a_gpu_with_memory_errors_or_without_an_answer_is_left_out_by_its_own_words",
        ),
    ),
    234: (
        "P21",
        "a folder without a checkpoint at the end of `run --until`; a damaged file in it; the parent of several trainings; two files of one name as sets; the default tokenizer without its ranks",
        (
            "test_a_run_that_ends_by_itself_without_a_checkpoint_tells_so",
            "test_the_remedy_for_a_rejected_file_stands_beside_its_reason_everywhere",
            "test_init_on_the_parent_of_several_trainings_writes_a_run_for_each",
            "test_folders_of_steps_are_one_training_and_each_checkpoint_belongs_to_one_run",
            "test_a_run_on_a_database_of_before_goes_on_under_the_name_of_its_set",
            "test_a_set_is_named_on_the_command_line_as_two_files_of_one_name_need",
            "test_a_default_tokenizer_that_is_not_at_hand_is_refused_as_the_default_that_it_is",
        ),
    ),
    235: (
        "P21",
        "a checkpoint that is not there, given to `inspect` and `eval`: a slip in its name, another name, an empty or absent folder",
        ("test_a_checkpoint_that_is_not_there_is_answered_with_the_nearest_that_is",),
    ),
    236: (
        "P7",
        "a signal (SIGTERM, SIGCHLD) in the moment in which the daemon begins or ends to wait",
        (
            "test_row_236_a_signal_handler_that_comes_within_wait_set_or_clear_does_not_wait_for_itself",
            "test_a_wait_ends_by_a_call_before_it_and_by_a_signal_in_it",
        ),
    ),
}
