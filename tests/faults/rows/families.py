"""Rows 341 to 360: families and formats. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    341: ("P15", "nanochat's versions with the same or with other keys", ("test_each_version_of_nanochat_is_computed_as_its_keys_say", "test_the_bound_on_logits_is_asked_for_where_two_versions_have_the_same_keys", "test_what_no_version_of_nanochat_has_is_refused_by_name")),
    342: ("P15", "litgpt's classes, both layouts of attention, unknown values in its YAML", ("test_each_class_of_litgpt_is_computed_from_its_yaml_in_both_layouts", "test_a_field_of_the_yaml_that_is_not_known_or_has_an_unknown_value_is_refused_by_name")),
    343: ("P15", "relatives of Llama with values that they do not have; rotary scaling that only transformers knows", ("test_each_relative_of_llama_is_computed_as_transformers_does", "test_a_value_that_the_relative_does_not_have_is_refused_by_name", "test_a_scaling_that_only_transformers_knows_goes_through_it_from_a_folder_and_is_refused_in_a_file")),
    344: ("P15", "minimind without a configuration; OLMo's unsharded files", ("test_a_minimind_file_is_read_without_any_configuration_and_its_constants_are_noted", "test_an_unsharded_olmo_is_computed_from_its_config_yaml", "test_an_olmo_configuration_that_does_not_fit_is_refused")),
    345: ("P15", "configurations as YAML text, in W&B's nesting, as tensors; two files beside a checkpoint that differ", ("test_a_configuration_of_each_kind_is_read", "test_two_files_beside_it_that_differ_in_what_tensors_do_not_show_are_asked_about")),
    346: ("P15", "the parts of a pipeline in a list; a step that another count of the file contradicts", ("test_a_list_of_state_dicts_is_named_as_the_parts_of_a_pipeline", "test_a_step_that_another_count_of_the_file_contradicts_is_said")),
    347: ("P15", "safetensors alone; minGPT by its model_type; an activation that rosellm's code does not tell apart", ("test_a_safetensors_file_alone_is_evaluated_with_the_configuration_beside_it", "test_mingpt_sizes_follow_from_the_model_type_in_its_config_json", "test_any_other_activation_of_rosellm_is_refused_for_its_code_computes_gelu")),
    348: ("P15", "llm.c weights: padded vocabulary, bfloat16, cut off, of an old version; a width taken for a step", ("test_llmc_weights_are_read_without_the_padding_of_their_vocabulary", "test_a_last_number_that_is_the_models_width_is_no_step")),
    349: ("P15", "means of folders: Hugging Face with one or several shards, litgpt, nanochat, DCP; members rotated away, damaged, of another model", ("test_mean_of_hugging_face_folders_is_what_transformers_computes_with_the_mean_by_hand", "test_mean_of_other_folders_equals_the_checkpoint_of_the_mean_by_hand", "test_means_of_hugging_face_folders_outlive_the_rotation_of_their_members", "test_a_member_folder_that_is_damaged_or_another_model_is_refused_by_its_name")),
}  # fmt: skip
