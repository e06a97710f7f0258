"""Rows 221 to 240: launch and settings. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    221: (
        "P15",
        "settings that cannot be meant: true as a number, NaN, a stride beyond the window, bad globs and markers",
        (
            "test_a_setting_that_cannot_be_meant_is_refused_with_its_place_and_reason",
            "test_a_file_of_another_shape_is_refused_with_its_place_and_reason",
            "test_flags_laid_over_the_file_are_checked_like_the_file",
        ),
    ),
    222: (
        "P15",
        "variables that set nothing, a literal `~`, variables of a Kubernetes service",
        (
            "test_a_home_is_expanded_in_variables_and_an_unknown_variable_is_refused",
            "test_the_variables_of_a_kubernetes_service_named_ckptwatch_are_no_settings",
        ),
    ),
    223: (
        "P15",
        "no HOME for an unknown uid; folders and in-memory URLs as the database",
        ("test_without_a_home_for_an_unknown_user_there_is_a_sentence_and_no_traceback",),
    ),
    224: (
        "P15",
        "a model configuration with dates, NaN, or nested 100,000 deep",
        ("test_a_model_configuration_file_is_checked_like_a_table",),
    ),
}
