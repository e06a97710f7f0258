"""Rows 420 to 439: siblings of known cases. row -> (promise, what is done, names of the tests)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    420: ("P15", "a fork pickled whole: another activation, norm, epsilon, number of heads or part than its family has", ("test_a_model_pickled_whole_is_computed_as_its_modules_say", "test_a_model_pickled_whole_with_parts_of_another_model_is_refused_by_their_name")),
    421: ("P15", "masks and rotary tables in a file that are not what the model computes: windowed attention, another base", ("test_a_causal_mask_in_the_file_is_no_obstacle_however_it_is_written", "test_a_mask_of_other_attention_in_the_file_is_refused", "test_rotary_tables_in_a_file_of_a_model_without_them_are_refused", "test_inverse_frequencies_of_another_base_than_the_configuration_gives_are_refused")),
    422: ("P15", "modded-nanogpt by nanochat's names; weights in parts (pruned, weight norm); a best loss of 1e9", ("test_a_head_that_is_the_embedding_is_no_nanochat", "test_a_weight_that_stands_there_in_parts_is_named_as_missing_with_its_parts", "test_a_best_loss_from_before_the_first_validation_is_no_logged_loss")),
    423: ("P15", "a token type declared narrower than the ids are; a header of zeros whose numbers count something else", ("test_a_type_that_is_declared_too_narrow_is_doubted_in_the_note", "test_a_header_whose_numbers_count_something_else_is_no_token", "test_ids_that_begin_with_a_padded_row_are_no_header")),
    424: ("P15", "text with CRLF or CR; rows of prompts, turns of a conversation; Megatron's stem without an ending", ("test_line_ends_of_another_system_are_kept_and_told", "test_a_row_without_the_field_is_answered_by_what_it_holds", "test_the_stem_by_which_megatron_names_its_pair_is_answered_by_the_file")),
    425: ("P15", "a save over an older one that stopped between two shards; whole weights in two formats in one folder", ("test_a_shard_that_is_newer_than_the_index_while_others_are_older_is_noted", "test_whole_weights_in_another_format_are_named_and_not_read")),
    426: ("P15", "a folder whose architectures name a class of the trainer's own; quantised weights of a family of ours; torchtune's steps and its Gemma 2", ("test_a_class_of_the_trainer_s_own_is_named", "test_quantised_weights_are_called_so_for_a_family_of_ours", "test_torchtune_s_recipe_state_in_the_folder_of_an_epoch_gives_the_step", "test_torchtune_s_gemma_2_is_told_from_the_one_that_is_computed")),
    427: ("P1", "weights saved by trainer.save_model(), beside an optimizer's state of a loop of its own, or by Accelerate: no trainer_state.json ever comes", ("test_a_folder_that_the_trainer_of_transformers_did_not_write_to_its_end_is_whole", "test_an_accelerate_folder_is_evaluated_with_the_configuration_given", "test_a_folder_is_recognised_by_the_names_in_it")),
    428: ("P15", "one rank's share of an FSDP model; a configuration of another model type beside the tensors", ("test_a_share_of_an_fsdp_model_and_a_configuration_of_another_type_are_called_so",)),
    429: ("P15", "one data file named by two patterns or by a link", ("test_a_file_that_two_patterns_or_a_link_name_counts_once",)),
    430: ("P15", "a save over an older DCP folder that stopped between two ranks", ("test_a_slice_of_a_later_save_that_was_interrupted_is_noted",)),
    431: ("P15", "switches that are off: a norm, a residual or positions that every model of the family has; rotary pairs of halves", ("test_a_part_that_every_model_of_the_family_has_cannot_be_switched_off", "test_rotary_pairs_of_halves_are_no_llama_by_meta_s_names")),
    432: ("P15", "a schedule-free optimizer saved in its train mode: other weights than those it is validated with", ("test_weights_of_a_schedule_free_optimizer_in_its_train_mode_are_told",)),
    433: ("P15", "gradients, moments or differences under a model's names and shapes, with no model beside them", ("test_tensors_that_are_no_weights_by_their_name_are_not_evaluated_unasked",)),
    434: ("P15", "a hint on a field of the configuration, followed to the letter", ("test_what_the_hint_says_of_a_field_that_names_another_model_works",)),
}  # fmt: skip
