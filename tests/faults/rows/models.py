"""Rows 121 to 140: models. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    121: ("P15", "a nanoGPT fork with the same names and another activation, named in the file or not", ("test_a_fork_of_nanogpt_that_names_its_activation_is_computed_with_it", "test_an_activation_that_the_file_does_not_name_can_be_given")),
    122: ("P15", "a field of the configuration that changes the forward pass and that the family does not have", ("test_a_field_of_the_configuration_that_the_family_does_not_have_is_refused_by_name", "test_fields_that_change_no_forward_pass_are_no_obstacle")),
    123: ("P15", "nanoGPT files of the time of its tanh GELU", ("test_nanogpt_files_older_than_bias_have_the_tanh_gelu_and_a_note_that_says_so", "test_nanogpt_files_with_mask_buffers_are_noted_for_their_gelu_may_be_either")),
    124: ("P15", "names and configuration that fit two families (Lightning around nanoGPT)", ("test_lightning_around_a_gpt_of_two_possible_families_is_asked_about", "test_names_shared_by_two_trainers_want_the_family_where_the_file_does_not_tell")),
    125: ("P15", "a measured loss that contradicts the one logged in the file", ("test_a_measured_loss_far_from_the_logged_one_is_said",)),
    126: ("P15", "configurations as OmegaConf, pydantic, dict subclass, JSON text, text for numbers, without field names", ("test_a_configuration_of_any_kind_is_read", "test_fields_pickled_without_names_are_refused_with_the_class")),
    127: ("P15", "configurations at the top level, one or two levels down, split, under any name, in nested YAML", ("test_a_configuration_in_any_place_is_read", "test_nested_yaml_beside_the_weights_is_read")),
    128: ("P15", "a configuration that is wrong in the file and corrected by [model] config", ("test_a_sidecar_is_completed_and_corrected_by_the_settings", "test_a_padded_vocabulary_is_scored_over_all_its_rows_with_a_note")),
    129: ("P15", "prefixes of two levels, metrics, EMA, SWA's counter beside the weights", ("test_prefixes_of_two_levels_metrics_and_an_ema_beside_the_weights_do_not_matter", "test_a_tensor_beside_the_model_that_may_be_a_part_of_it_is_never_dropped", "test_averaged_weights_with_their_counter_are_the_average")),
    130: ("P15", "LoRA adapters, alone and within a state dict; two networks in one file", ("test_lora_adapters_are_refused_by_name_with_the_way_to_merge_them", "test_a_known_model_is_taken_before_another_network_of_the_same_file")),
    131: ("P15", "llama2.c and torchtitan: rotary pairs of neighbours, a flat state dict at the top level", ("test_llama2c_is_computed_with_neighbouring_rotary_pairs", "test_a_flat_torchtitan_file_is_the_model_at_its_top_level")),
    132: ("P15", "DeepSpeed's module, whole below stage 3 and a part above", ("test_deepspeed_below_stage_3_holds_the_whole_model",)),
    133: ("P15", "minGPT; LLMs-from-scratch without a configuration", ("test_mingpt_s_configuration_and_names_mean_the_tanh_gelu", "test_llms_from_scratch_needs_only_its_heads_said")),
    134: ("P2", "sidecar, factory code or [model] settings changed after an evaluation", ("test_a_corrected_sidecar_and_corrected_settings_are_measured_again", "test_a_corrected_sidecar_moves_the_model_digest_and_its_layout_does_not", "test_every_model_setting_moves_the_model_digest", "test_the_factory_s_code_counts_with_all_that_its_module_imports_from_the_same_place", "test_the_factory_s_package_counts_as_a_whole_and_is_never_imported")),
    135: ("P15", "a context length that only the configuration of a factory's model tells; strided windows", ("test_a_factory_s_context_is_read_from_nested_yaml_and_its_windows_are_contiguous",)),
    136: ("P15", "weights that transformers would drop or draw at random; names of Llama without a model type", ("test_another_model_type_goes_through_transformers", "test_names_of_llama_without_a_model_type_are_asked_about")),
    137: ("P15", "a Hugging Face folder without config.json, or with a wrong one", ("test_weights_in_a_folder_without_config_json_take_the_configuration_of_the_settings", "test_a_folder_s_configuration_is_corrected_by_the_settings")),
    138: ("P15", "hints that name a flag: followed with the stand-alone command", ("test_the_model_flags_complete_and_correct_the_checkpoint",)),
    139: ("P15", "counters of an average, a teacher's configuration, momentum and gradients beside the model", ("test_the_counters_of_an_averaged_model_are_no_part_of_the_model", "test_a_state_dict_named_as_a_by_product_is_not_taken_for_the_model", "test_a_teachers_configuration_is_not_taken_for_the_students")),
    140: ("P15", "a configuration that switches off causality or the norm before each part; an old nanoGPT without biases", ("test_what_every_gpt_does_is_refused_where_the_configuration_switches_it_off", "test_the_tanh_gelu_of_old_nanogpt_is_assumed_only_for_files_with_biases")),
}  # fmt: skip
