"""Rows 141 to 160: data. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    141: (
        "P15",
        "ranks with unequal threads",
        ("test_ranks_with_unequal_threads_score_every_window_once", "test_a_pass_that_drops_a_window_is_refused"),
    ),
    142: ("P15", "ranks that see other data", ("test_ranks_that_see_other_data_are_refused_by_what_differs",)),
    143: (
        "P8",
        "a rank that never comes; RANK left over in the environment",
        (
            "test_a_rank_that_never_comes_is_named_after_the_limit",
            "test_a_leftover_rank_in_the_environment_is_refused_at_once",
        ),
    ),
    144: (
        "P2",
        "data rewritten in place with its old times",
        ("test_data_rewritten_in_place_with_its_old_times_is_noticed",),
    ),
    145: (
        "P2",
        "the same bytes under another suffix",
        ("test_the_same_bytes_under_another_suffix_are_another_measurement",),
    ),
    146: (
        "P2",
        "meta.pkl or tokenizer files that come or change later",
        ("test_meta_pkl_that_comes_later_changes_the_digest_and_is_noticed", "test_every_file_of_a_tokenizer_counts"),
    ),
    147: (
        "P15",
        "a .bin of uint32, int64, uint8 or big-endian ids, without a header",
        (
            "test_a_headerless_bin_of_another_type_is_refused_with_the_type_that_reads_it",
            "test_big_endian_tokens_are_refused",
            "test_a_large_file_is_judged_by_blocks_over_its_whole_length",
            "test_a_token_type_given_by_flag_is_the_value_of_the_tokens",
        ),
    ),
    148: ("P15", "a Git LFS pointer as data", ("test_a_git_lfs_pointer_is_refused_under_any_name",)),
    149: (
        "P15",
        "an error page, an archive or a database as data",
        (
            "test_the_page_of_a_failed_download_is_refused_under_any_name",
            "test_compressed_and_foreign_files_are_known_by_their_bytes_not_their_name",
        ),
    ),
    150: (
        "P15",
        "text saved as .bin; UTF-16; a table",
        (
            "test_text_saved_as_bin_is_refused_and_read_as_text_where_asked",
            "test_utf16_text_is_refused",
            "test_tables_are_refused_unless_they_are_meant_as_text",
        ),
    ),
    151: (
        "P15",
        "JSON arrays, JSON lines, other fields, ids in JSON",
        (
            "test_of_json_the_texts_alone_are_measured",
            "test_another_field_is_named_with_the_flag_that_reads_it",
            "test_json_that_holds_no_documents_is_refused",
        ),
    ),
    152: (
        "P15",
        "a token file that was never filled, wholly or at its end",
        (
            "test_tokens_that_are_all_zero_are_refused",
            "test_a_long_tail_of_zeros_is_refused_with_the_number_of_tokens_before_it",
        ),
    ),
    153: (
        "P15",
        "bits per byte of ids whose tokenizer is unknown, or another",
        (
            "test_bytes_of_ids_are_known_only_where_their_tokenizer_is",
            "test_meta_pkl_of_other_data_gives_no_bytes_per_token",
            "test_a_declared_tokenizer_with_more_text_than_the_vocabulary_gives_no_bits_per_byte",
        ),
    ),
    154: (
        "P15",
        "a model whose context is not known",
        ("test_windows_of_a_model_with_unknown_context_are_named_in_the_note",),
    ),
    155: (
        "P15",
        "a trainer that gives each rank its own shard",
        ("test_a_trainer_that_gives_each_rank_its_own_shard_is_refused",),
    ),
    156: (
        "P15",
        "a tokenizer's ranks without their pattern",
        ("test_a_ranks_file_without_its_pattern_says_what_was_assumed",),
    ),
    157: (
        "P15",
        "a notebook, JSON under another name, weights as data",
        (
            "test_json_over_several_lines_is_no_prose_under_any_name",
            "test_a_pytorch_file_of_the_older_format_is_no_token_file",
        ),
    ),
    158: (
        "P8",
        "a checkpoint that one of two ranks cannot read",
        ("test_a_checkpoint_that_one_rank_cannot_read_ends_all_ranks_with_its_reason",),
    ),
    159: (
        "P15",
        "a git-annex pointer, the words of a failed download, numbers as text",
        (
            "test_a_pointer_or_the_words_of_a_failed_download_are_refused_under_any_name",
            "test_numbers_written_as_text_are_refused_as_token_ids_unless_they_are_meant_as_text",
        ),
    ),
    160: (
        "P15",
        "ids behind a header that no known format has",
        ("test_ids_behind_a_header_that_counts_them_are_refused_and_read_without_it",),
    ),
}
