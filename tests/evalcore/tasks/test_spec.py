"""What a task may be: names, renderings and scorings that fit together; the rest is refused with a remedy."""

import pytest

from evalcore.tasks.spec import TASKS, TaskSpec, task_spec


@pytest.mark.parametrize(
    ("task", "scoring", "kind"),
    [
        ("hellaswag", "lm-eval", "multiple_choice"),
        ("winogrande", "lm-eval", "schema"),
        ("lambada", "lm-eval", "language_modeling"),
        ("multiple_choice", "core", "multiple_choice"),
        ("tokens", "nanogpt", "multiple_choice"),
    ],
)
def test_a_task_has_the_scoring_that_its_files_are_scored_with_elsewhere(task, scoring, kind):
    spec = task_spec(task)
    assert (spec.name, spec.scoring, spec.kind, spec.shots) == (task, scoring, kind, 0)


def test_easy_and_challenge_have_one_rendering_and_two_names():
    assert task_spec("arc_easy").declared() == task_spec("arc_challenge").declared()
    assert {"arc_easy", "arc_challenge"} <= set(TASKS)


@pytest.mark.parametrize(
    ("task", "fields", "words"),
    [
        ("helaswag", {}, "task 'helaswag' is not known; use one of hellaswag"),
        ("hellaswag", {"scoring": "lm_eval"}, "scoring 'lm_eval' is not known"),
        ("hellaswag", {"shots": 5}, "a training split that the file does not hold"),
        ("hellaswag", {"shots": 5, "scoring": "nanogpt"}, "use scoring 'core', or shots = 0"),
        ("hellaswag", {"shots": -1}, "shots is -1"),
        ("tokens", {"scoring": "core"}, "tokenised items have no text"),
        ("tokens", {"bos": True}, "no place for a beginning-of-text token"),
        ("hellaswag", {"max_items": 0}, "max_items is 0"),
        ("hellaswag", {"random_baseline": 25.0}, "a share of at least 0 and below 1"),
    ],
)
def test_what_does_not_fit_together_is_refused_with_a_remedy(task, fields, words):
    with pytest.raises(ValueError, match=words):
        task_spec(task, **fields)


def test_fields_that_are_given_stand():
    spec = task_spec("multiple_choice", shots=10, delimiter="\nAnswer: ", random_baseline=0.25, max_items=500)
    assert spec == TaskSpec("multiple_choice", "multiple_choice", "core", 10, "\nAnswer: ", None, 500, 0.25)
