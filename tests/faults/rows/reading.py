"""Rows 101 to 120: reading. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    101: ("P16", "tensors with torch's neg and conj bits, as a plain torch.save writes them", ("test_negated_and_conjugated_tensors_have_the_values_that_torch_loads", "test_a_negated_step_is_negative_and_so_none")),
    102: ("P16", "BUILD on a tensor or a parameter", ("test_the_state_of_a_tensor_or_parameter_is_refused_not_ignored",)),
    103: ("P16", "a mapping made of another mapping, or of arguments that NEWOBJ loses", ("test_a_mapping_made_of_another_mapping_has_its_items", "test_a_new_mapping_that_would_lose_its_arguments_is_refused")),
    104: ("P16", "`data` among a tensor's attributes", ("test_attributes_that_replace_a_tensors_values_are_refused", "test_the_list_of_a_tensors_properties_is_torchs_own")),
    105: ("P16", "record names that differ by case; BYTEORDER", ("test_records_that_torch_refuses_are_refused", "test_a_byte_order_under_another_case_swaps_torchs_values_and_is_refused")),
    106: ("P16", "sparse, quantised, meta tensors and tensor subclasses", ("test_sparse_quantised_nested_and_meta_tensors_are_named_not_measured", "test_a_tensor_subclass_is_no_plain_tensor")),
    107: ("P16", "descriptions of tensors and archives that torch refuses", ("test_what_torch_refuses_for_cause_is_refused", "test_an_archive_without_a_version_is_not_of_torch", "test_a_legacy_file_of_another_protocol_or_with_an_unused_storage_is_refused")),
    108: ("P17", "a tuple of 2^60 items in 845 bytes", ("test_a_storage_location_that_doubles_itself_is_refused_before_it_is_printed", "test_a_tuple_that_doubles_itself_is_harmless_wherever_it_stands")),
    109: ("P17", "2^64 elements by strides of 0", ("test_two_to_the_64_elements_by_strides_of_zero_are_refused", "test_the_number_of_parameters_fits_a_database_column")),
    110: ("P17", "an integer of 400 digits as val_loss", ("test_an_integer_of_hundreds_of_digits_is_no_loss_no_step_and_no_error", "test_an_integer_longer_than_its_bound_is_refused")),
    111: ("P17", "a lone surrogate in a tensor's name; a name of 3 MB", ("test_tensor_names_that_cannot_be_printed_or_stored_are_refused_in_a_short_sentence", "test_whatever_a_file_is_full_of_its_summary_can_be_stored_and_stays_small")),
    112: ("P16 P17", "random structures and crafted pickles, against torch's safe loader", ("test_two_thousand_random_files_are_read_as_torch_reads_them_or_refused", "test_the_memory_of_reading_random_files_does_not_grow", "test_the_fuzzer_sees_a_difference_where_there_is_one")),
    113: ("P15", "names with sizes, losses, dates, seeds, versions and shards in them", ("test_a_name_tells_the_step_and_nothing_else_for_it",)),
    114: ("P15", "the planned number of steps under `steps`, `num_steps` or `iter`", ("test_a_planned_total_in_the_payload_gives_way_to_the_names_number_and_says_why", "test_a_key_that_may_hold_a_planned_total_comes_after_every_other")),
    115: ("P15", "a step in a tensor or array of one element", ("test_a_step_in_a_tensor_or_array_of_one_element_is_one",)),
    116: ("P17 P21", "a folder of small bombs beside a good file", ("test_a_folder_of_small_bombs_ends_with_one_verdict_each_and_the_good_files_measured",)),
    117: ("P16", "safetensors headers with overlaps, gaps, a name twice, an unknown dtype", ("test_a_safetensors_header_that_is_ambiguous_or_forbidden_is_refused", "test_a_good_safetensors_header_gives_every_tensor_its_place")),
    118: ("P16", "state dicts in subclasses of dict; modules with sparse buffers", ("test_a_state_dict_in_a_subclass_of_dict_is_found", "test_a_module_with_a_parameter_that_is_no_plain_tensor_names_it")),
    119: ("P16", "a DCP folder without a slice file, with one cut off or with a flipped bit, with parts that do not cover a tensor", ("test_incomplete_folder_is_corrupt_and_says_which_file", "test_damaged_slice_is_corrupt_by_its_file", "test_parts_that_do_not_cover_a_tensor_are_refused")),
    120: ("P16 P17", "a DCP index with transforms, unknown fields, a path out of the folder, or code", ("test_transformed_safetensors_and_foreign_indexes_are_refused_with_the_reason", "test_no_class_of_the_index_is_made")),
}  # fmt: skip
