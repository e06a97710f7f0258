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
}
