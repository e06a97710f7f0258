"""Rows 420 to 439: siblings of known cases. row -> (promise, what is done, names of the tests)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    420: ("P15", "a fork pickled whole: another activation, norm, epsilon, number of heads or part than its family has", ("test_a_model_pickled_whole_is_computed_as_its_modules_say", "test_a_model_pickled_whole_with_parts_of_another_model_is_refused_by_their_name")),
    421: ("P15", "masks and rotary tables in a file that are not what the model computes: windowed attention, another base", ("test_a_causal_mask_in_the_file_is_no_obstacle_however_it_is_written", "test_a_mask_of_other_attention_in_the_file_is_refused", "test_rotary_tables_in_a_file_of_a_model_without_them_are_refused", "test_inverse_frequencies_of_another_base_than_the_configuration_gives_are_refused")),
    422: ("P15", "modded-nanogpt by nanochat's names; weights in parts (pruned, weight norm); a best loss of 1e9", ("test_a_head_that_is_the_embedding_is_no_nanochat", "test_a_weight_that_stands_there_in_parts_is_named_as_missing_with_its_parts", "test_a_best_loss_from_before_the_first_validation_is_no_logged_loss")),
}  # fmt: skip
