"""Rows 361 to 380: unclear inputs and edits. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    361: ("P15", "counts and switches of a forward pass under words of training: recurrent_steps, parallel_residual = 1, use_wpe = false", ("test_a_count_or_a_switch_that_changes_the_forward_pass_is_refused_by_name", "test_words_of_architecture_count_beside_training_fields_too", "test_fields_of_training_with_the_same_words_are_no_obstacle")),
    362: ("P15", "architecture in a list, or in a configuration of another name", ("test_architecture_in_a_configuration_of_another_name_counts",)),
    363: ("P15", "two names of one size or epsilon with different numbers", ("test_two_names_that_give_different_numbers_are_asked_about",)),
    364: ("P15", "a head that differs from the embedding although the configuration ties them", ("test_a_head_that_differs_although_the_configuration_ties_it_is_asked_about",)),
    365: ("P15", "two models of the same shapes in one file, under names that do not tell them apart", ("test_two_models_under_names_that_say_nothing_are_asked_about", "test_two_models_in_one_state_dict_are_asked_about_and_an_average_is_not_one_of_them")),
    366: ("P15", "a Llama configuration with code of its own, or a remedy for causality that has to work", ("test_a_llama_with_code_of_its_own_or_another_head_than_its_configuration_says_is_refused",)),
    367: ("P15", "ids saved as floats, weights or logits as data", ("test_ids_saved_as_floating_point_numbers_are_refused", "test_weights_and_logits_are_no_tokens")),
    368: ("P15", "big-endian ids of a large vocabulary; one id throughout or to the end", ("test_big_endian_tokens_of_a_large_vocabulary_are_refused", "test_one_id_throughout_or_to_the_end_is_refused")),
    369: ("P15", "pickles, archives, pointers, arrays written as text, tables of two columns, UTF-32 as data", ("test_a_pickle_of_ids_is_no_token_file", "test_ids_that_begin_as_a_pickle_does_are_read", "test_what_stands_under_the_name_of_a_text_is_named", "test_a_poem_with_a_comma_in_each_line_is_text", "test_a_field_that_is_no_text_is_named_with_its_line")),
    370: ("P15", "a step written as text, as 1e5 or as a percentage", ("test_a_step_written_as_text_is_one", "test_a_name_tells_the_step_and_nothing_else_for_it")),
    371: ("P9", "rows of checkpoints or eval_sets deleted by hand, with the jobs that name them left", ()),
    372: ("P9", "a user's trigger that names a table which is gone", ()),
    373: ("P11", "a settings file that is empty, or without data, when it is reloaded", ()),
    374: ("P9", "a FIFO, a folder, a link or junk in the inbox", ("test_a_fifo_a_folder_a_link_or_a_huge_file_in_the_inbox_stops_no_order", "test_a_file_that_is_no_order_is_removed_and_the_next_order_is_taken")),
    375: ("P15", "a meta.pkl that lacks the text of an id", ("test_meta_pkl_without_a_text_for_every_id_gives_no_bits_per_byte",)),
    376: ("P15", "a pickled tiktoken Encoding without some bytes, with a broken pattern or an empty special token", ("test_a_pickled_encoding_that_cannot_encode_every_text_is_refused",)),
    377: ("P2", "the code of a factory edited while the daemon runs; another module of the same name already imported", ("test_code_that_changed_since_its_digest_was_taken_measures_nothing", "test_a_module_of_another_folder_with_the_same_name_is_never_taken_for_the_factory")),
    378: ("P15", "a model that sees later tokens: BERT's folder, or a factory without a mask", ("test_a_model_that_sees_later_tokens_is_refused", "test_a_factory_that_works_one_that_is_not_causal_and_one_that_fails")),
    379: ("P15", "float32 weights with a lower dtype in config.json; quantised weights in a folder that transformers builds", ("test_weights_of_float32_are_not_rounded_to_the_dtype_that_config_json_names", "test_quantised_weights_in_a_folder_are_named")),
    380: ("P15", "two bases of rotary positions in one configuration; values that only transformers computes, or that it ignores", ("test_two_bases_of_rotary_positions_are_asked_about", "test_a_value_that_only_transformers_computes_goes_through_it_from_a_folder", "test_what_the_hint_says_of_a_field_that_transformers_ignores_works", "test_a_folder_of_another_type_with_the_names_of_gpt2_goes_through_transformers")),
    381: ("P15", "Megatron of several ranks or with arguments that a factory does not compute; the sLSTM's weights in the layout of its CUDA kernels", ("test_a_megatron_folder_without_a_factory_of_several_ranks_or_unfinished_is_refused", "test_the_recipe_for_megatron_refuses_what_it_does_not_compute", "test_the_recipe_for_xlstm_gives_the_plain_class_its_own_layout")),
}  # fmt: skip
