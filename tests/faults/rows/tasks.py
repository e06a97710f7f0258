"""Rows 301 to 320: tasks. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    301: (
        "P15",
        "an item of a task with a label out of range, an empty choice, a missing field; a malformed line; too few items",
        (
            "test_an_item_that_cannot_be_scored_is_named_with_its_line",
            "test_a_malformed_line_and_too_few_items_for_the_shots_are_refused",
        ),
    ),
    302: (
        "P15",
        "a token id above the vocabulary, a continuation beyond the context",
        ("test_an_id_above_the_vocabulary_and_a_continuation_beyond_the_context_name_the_line",),
    ),
    303: (
        "P15",
        "a damaged file of tokenised items",
        ("test_a_damaged_file_of_tokenised_items_is_refused_at_its_item",),
    ),
    304: (
        "P15",
        "a bundle with an unknown kind of task, without its items or its baseline, or written in YAML that is not read",
        (
            "test_a_bundle_that_is_unclear_is_refused_with_its_line",
            "test_shots_in_a_list_of_lines_and_lists_of_other_keys_are_read",
        ),
    ),
    305: (
        "P15",
        "a file that holds items of a task and text, or items of two tasks",
        (
            "test_rows_that_are_a_task_and_a_text_say_so",
            "test_rows_of_two_tasks_are_given_to_neither",
            "test_flags_that_do_not_fit_a_task_are_a_usage_error",
        ),
    ),
    306: (
        "P15",
        "no memory for a batch of a task's items",
        ("test_a_batch_that_does_not_fit_is_halved_until_it_does",),
    ),
    307: (
        "P15",
        "a model whose logits are not numbers",
        ("test_nats_that_are_no_number_are_a_result_with_a_note_and_never_right",),
    ),
    308: (
        "P15",
        "damaged scores of items in the database or an outcome",
        ("test_no_changed_byte_becomes_other_scores", "test_bytes_that_are_cut_off_are_refused"),
    ),
    309: (
        "P8",
        "a bad task among good ones in a launch of two ranks",
        ("test_two_ranks_answer_loss_sets_and_tasks_of_one_checkpoint_with_the_scores_of_one",),
    ),
    310: (
        "P15",
        "two fields of an item that name different answers or choices, the right choice twice, a key twice, no question",
        (
            "test_few_items_with_the_right_choice_twice_are_scored_as_the_harness_does_and_counted",
            "test_a_row_that_contradicts_itself_is_refused_with_its_line",
            "test_a_key_that_stands_twice_with_two_values_is_refused_with_its_line",
            "test_fields_that_say_the_same_or_nothing_are_no_contradiction",
        ),
    ),
    311: (
        "P15",
        "choices that share the forward pass of their context: rotary positions, windows, capped scores, smeared inputs",
        (
            "test_rotary_families_of_transformers_share_the_context",
            "test_neighbouring_rotary_pairs_share_the_context",
            "test_models_of_litgpt_share_the_context",
            "test_versions_of_nanochat_share_the_context",
        ),
    ),
    312: (
        "P15",
        "the 22 tasks of CORE by the stand-alone command on one rank and on three; flags that mean nothing for a suite",
        (
            "test_core_is_the_same_on_one_and_three_ranks_and_the_mean_of_a_plain_loop",
            "test_flags_of_a_task_reach_it_and_those_without_a_meaning_are_refused",
        ),
    ),
    313: (
        "P15",
        "a compressed file of items or texts that is cut off or damaged",
        (
            "test_a_compressed_file_that_is_damaged_is_refused_by_its_path",
            "test_a_compressed_text_that_is_damaged_is_refused_by_its_path",
            "test_a_frame_that_is_cut_off_is_an_error",
        ),
    ),
    314: (
        "P15",
        "the file of a task's items changes or goes after the result; escape sequences in an item's text",
        ("test_items_and_flips_show_the_text_and_the_model_s_choice",),
    ),
    315: (
        "P15",
        "a best link whose best checkpoint is the first that is evaluated",
        (
            "test_a_first_result_is_the_best_where_a_link_is_kept_and_raises_nothing_elsewhere",
            "test_a_killed_task_gives_one_row_and_a_changed_file_only_its_own_cells",
        ),
    ),
    316: (
        "P15",
        'answers in another notation (2.0, "yes", labels in a file beside), items as Arrow or plain text, two tasks in one file',
        (
            "test_an_answer_in_another_notation_is_the_same_answer",
            "test_labels_in_a_file_of_their_own_are_read",
            "test_arrow_files_and_folders_of_datasets_are_read",
            "test_an_arrow_file_that_is_cut_off_is_refused_with_its_row",
            "test_plain_text_with_a_line_for_each_item_is_lambada",
            "test_two_tasks_in_one_file_and_a_file_of_another_task_are_refused_with_the_line",
        ),
    ),
    317: (
        "P15",
        "a tokenizer.json saved with a trainer's truncation and padding, or with another `add_prefix_space` than beside it",
        (
            "test_a_limit_and_padding_saved_in_a_tokenizer_file_do_not_touch_the_text",
            "test_two_files_of_a_tokenizer_that_disagree_on_the_first_space_are_refused",
        ),
    ),
    318: (
        "P15",
        "an item whose text begins with the token that the tokenizer puts before every text",
        ("test_a_text_that_begins_with_the_tokenizer_s_first_token_gets_no_second_one",),
    ),
    319: (
        "P15",
        "a trainer's model with a frozen part in evaluation mode, or in training mode below a wrapper that is not",
        (
            "test_every_module_of_a_trainer_s_model_has_its_mode_back_and_none_trains_meanwhile",
            "test_a_part_that_trains_below_a_wrapper_in_evaluation_mode_does_not_train_while_it_is_measured",
        ),
    ),
    320: (
        "P15",
        "likelihoods near 1 beside large logits: a loss near 0 that rounding would cover",
        ("test_a_loss_near_zero_keeps_its_digits_beside_large_logits",),
    ),
    321: (
        "P15",
        "texts or items as a table (CSV, TSV), or as one JSON object of rows or columns; items in an Arrow file without `--task`",
        (
            "test_a_table_or_columns_of_texts_become_documents_by_the_command_of_their_refusal",
            "test_a_table_or_columns_of_items_become_items_by_the_command_of_their_refusal",
            "test_columns_under_the_name_of_json_lines_are_refused_as_what_they_are",
            "test_the_columns_of_an_arrow_file_or_data_set_tell_the_task_without_pyarrow_in_the_process",
        ),
    ),
    322: (
        "P15",
        "an item that holds the text of a special token, such as `<|endoftext|>`",
        (
            "test_core_takes_the_text_of_a_special_token_for_text_as_nanochat_does",
            "test_the_other_conventions_take_it_for_the_token",
            "test_a_tokenizer_json_takes_it_for_the_token_under_every_convention",
        ),
    ),
}
