"""Rows 301 to 320: tasks. row -> (promise, what is done, names of the tests that prove it)."""

from __future__ import annotations

ROWS: dict[int, tuple[str, str, tuple[str, ...] | str]] = {
    301: (
        "P15",
        "an item of a task with a label out of range, an empty choice, a missing field; a malformed line; too few items",
        (
            "test_an_item_that_cannot_be_scored_is_named_with_its_line",
            "test_a_malformed_line_and_too_few_items_for_the_shots_are_refused",
        ),
    ),
    302: (
        "P15",
        "a token id above the vocabulary, a continuation beyond the context",
        ("test_an_id_above_the_vocabulary_and_a_continuation_beyond_the_context_name_the_line",),
    ),
    303: (
        "P15",
        "a damaged file of tokenised items",
        ("test_a_damaged_file_of_tokenised_items_is_refused_at_its_item",),
    ),
    304: (
        "P15",
        "a bundle with an unknown kind of task, without its items or its baseline",
        ("test_a_bundle_that_is_unclear_is_refused_with_its_line",),
    ),
    305: (
        "P15",
        "a file that holds items of a task and text, or items of two tasks",
        (
            "test_rows_that_are_a_task_and_a_text_say_so",
            "test_rows_of_two_tasks_are_given_to_neither",
            "test_flags_that_do_not_fit_a_task_are_a_usage_error",
        ),
    ),
    306: (
        "P15",
        "no memory for a batch of a task's items",
        ("test_a_batch_that_does_not_fit_is_halved_until_it_does",),
    ),
    307: (
        "P15",
        "a model whose logits are not numbers",
        ("test_nats_that_are_no_number_are_a_result_with_a_note_and_never_right",),
    ),
    308: (
        "P15",
        "damaged scores of items in the database or an outcome",
        ("test_no_changed_byte_becomes_other_scores", "test_bytes_that_are_cut_off_are_refused"),
    ),
    309: (
        "P8",
        "a bad task among good ones in a launch of two ranks",
        ("test_two_ranks_answer_loss_sets_and_tasks_of_one_checkpoint_with_the_scores_of_one",),
    ),
}
