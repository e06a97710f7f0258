"""Rows 381 to 400: files of original trainers and libraries. row -> (promise, what is done, names of the tests)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    382: ("P15", "several arrays one after the other in one .npy file", ("test_several_arrays_in_one_npy_file_are_refused",)),
    383: ("P15", "shards of two saves in one folder; torchtune's folders and its own names", ("test_shards_without_an_index_are_read_and_those_of_an_older_save_are_refused", "test_torchtune_s_own_names_are_named", "test_torchtune_s_folder_in_meta_s_format_is_one_file_with_params_json_beside_it")),
    384: ("P9", "prune and the files of nanochat's step beside its model: the meta and each rank's optimizer", ("test_prune_removes_a_pair_of_nanochat_together", "test_a_model_without_nanochat_s_meta_takes_nothing_with_it")),
    385: ("P15", "Lightning's averaged weights in the place of the trained ones", ("test_lightning_s_average_is_named_and_the_trained_weights_are_beside_it",)),
    386: ("P15", "activations that only transformers knows, a model for images and text, in a folder", ("test_a_gpt2_whose_activation_only_transformers_knows_goes_through_it_from_a_folder", "test_a_folder_of_a_model_for_images_and_text_is_named")),
    387: ("P15", "text by a tokenizer that cannot be the model's, with no id beyond its vocabulary", ("test_a_tokenizer_whose_vocabulary_cannot_be_the_model_s_is_noted",)),
    388: ("P15", "ids in Parquet; dictionary-encoded texts and fixed-size lists of ids in Arrow and Parquet", ("test_ids_in_a_parquet_file_are_read_row_by_row", "test_texts_and_ids_of_arrow_are_read_in_each_of_its_layouts")),
    389: ("P4", "safetensors folders, and zips and slices without CRC, where `require_zip` is set; one shard of two without CRC", ("test_a_hugging_face_folder_of_safetensors_is_refused", "test_one_shard_without_checksums_makes_the_folder_unverified", "test_a_zip_written_without_checksums_is_refused", "test_a_distributed_checkpoint_written_without_checksums_is_refused")),
    390: ("P15", "Megatron's torch_dist and its older sharded formats, one rank's part of a model, a folder of its iterations", ("test_megatrons_torch_dist_is_named_with_the_same_words_by_inspect_and_at_evaluation", "test_an_older_sharded_format_of_megatron_is_named", "test_a_part_of_a_megatron_model_is_named_by_the_argument_that_divides_it", "test_a_megatron_file_of_one_rank_is_answered_by_the_factory_of_the_page", "test_folders_of_other_trainers_are_answered")),
    391: ("P15", "Transformer Engine's extra state as nothing, bytes or an empty tensor; a tensor that the recipe for Megatron does not know", ("test_the_recipe_for_megatron_leaves_out_the_state_of_transformer_engine_in_every_form", "test_the_recipe_for_megatron_refuses_a_name_that_it_does_not_know")),
}  # fmt: skip
