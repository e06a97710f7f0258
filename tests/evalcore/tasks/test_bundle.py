"""nanochat's eval_bundle/: its tasks with shots, delimiters and baselines; what is unclear is refused with its line."""

import json

import pytest

from evalcore.tasks.bundle import BundleError, read_bundle

CORE = """\
# the tasks of CORE
icl_tasks:
-
  label: hellaswag_zeroshot
  dataset_uri: language_understanding/hellaswag.jsonl
  num_fewshot: [0]
  icl_task_type: multiple_choice
-
  label: jeopardy
  dataset_uri: world_knowledge/jeopardy_all.jsonl
  num_fewshot: [10]
  icl_task_type: language_modeling
  continuation_delimiter: "\\nAnswer: "
  has_categories: true
- label: winograd   # in one line with its dash
  dataset_uri: language_understanding/winograd.jsonl
  num_fewshot: [0]
  icl_task_type: schema
"""
META = "Eval Task,Task Category,Random baseline\nhellaswag_zeroshot,lang,25.0\njeopardy,world,0\nwinograd,lang,50\n"


@pytest.fixture
def folder(tmp_path):
    def write(core=CORE, meta=META):
        for name in (
            "language_understanding/hellaswag",
            "world_knowledge/jeopardy_all",
            "language_understanding/winograd",
        ):
            path = tmp_path / "eval_bundle" / "eval_data" / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"query": "q", "choices": ["a", "b"], "gold": 0}) + "\n")
        (tmp_path / "eval_bundle" / "core.yaml").write_text(core)
        (tmp_path / "eval_bundle" / "eval_meta_data.csv").write_text(meta)
        return str(tmp_path / "eval_bundle")

    return write


def test_a_bundle_gives_each_task_its_shots_delimiter_and_baseline(folder):
    bundle = read_bundle(folder())
    assert bundle.name == "eval_bundle"
    told = {
        t.spec.name: (t.spec.rendering, t.spec.shots, t.spec.delimiter, t.spec.random_baseline) for t in bundle.tasks
    }
    assert told == {
        "hellaswag_zeroshot": ("multiple_choice", 0, " ", 0.25),
        "jeopardy": ("language_modeling", 10, "\nAnswer: ", 0.0),
        "winograd": ("schema", 0, " ", 0.5),
    }
    assert {t.spec.scoring for t in bundle.tasks} == {"core"}
    assert bundle.tasks[0].path.endswith("/eval_bundle/eval_data/language_understanding/hellaswag.jsonl")


@pytest.mark.parametrize(
    ("core", "meta", "words"),
    [
        (CORE.replace("schema", "generation_task"), META, "line 15: task 'winograd' is of type 'generation_task'"),
        (CORE.replace("[10]", "[0, 10]"), META, r"num_fewshot of task 'jeopardy' is \[0, 10\]"),
        (CORE.replace("[10]", "ten"), META, "num_fewshot of task 'jeopardy' is 'ten'"),
        (CORE.replace("[10]", "[10"), META, "line 11: '\\[10' cannot be read"),
        (CORE.replace("winograd.jsonl", "gone.jsonl"), META, "items of task 'winograd' are not there"),
        (CORE.replace("label: winograd ", "label: jeopardy "), META, "'jeopardy' is there twice"),
        (CORE.replace("icl_tasks", "tasks"), META, "has no list `icl_tasks`"),
        (CORE, META.replace("jeopardy", "jeopardies"), "no random baseline of task 'jeopardy'"),
        (CORE, META.replace("25.0", "many"), "line 2: the random baseline of 'hellaswag_zeroshot' is 'many'"),
        (CORE, META.replace("25.0", "100"), "is 100 per cent"),
        (CORE, "a,b\n1,2\n", "has no columns"),
        (
            CORE.replace('"\\nAnswer: "', "'\n\n    Answer: '"),
            META,
            'line 13: "\'" is not closed on its line',
        ),  # PyYAML's
        (
            CORE.replace('"\\nAnswer: "', "|\n    Answer:"),
            META,
            "line 13: 'continuation_delimiter: |' is YAML that is not",
        ),
        (CORE.replace('"\\nAnswer: "', "\\nAnswer:"), META, "line 13: .*: write the value in double quotes"),
        (CORE.replace('"\\nAnswer: "', "~"), META, "line 13: 'continuation_delimiter: ~' is YAML that is not read"),
        (CORE.replace('"\\nAnswer: "', ""), META, "line 13: continuation_delimiter has no value"),
        (CORE.replace("[10]", "[10]\n  num_fewshot: [3]"), META, "line 12: num_fewshot is there twice"),
        (CORE.replace("[10]", "\n  - 0\n  - 10"), META, r"num_fewshot of task 'jeopardy' is \[0, 10\]"),
    ],
)
def test_a_bundle_that_is_unclear_is_refused_with_its_line(folder, core, meta, words):
    with pytest.raises(BundleError, match=words):
        read_bundle(folder(core, meta))


def test_shots_in_a_list_of_lines_and_lists_of_other_keys_are_read(folder):
    core = CORE.replace("[10]", "\n  - 10").replace("has_categories: true", "metric_names:\n  - one\n  - two: 2")
    core = core.replace("label: jeopardy", "label: jeopardy  # note: world")
    tasks = {task.spec.name: (task.spec.shots, task.spec.delimiter) for task in read_bundle(folder(core)).tasks}
    assert tasks == {"hellaswag_zeroshot": (0, " "), "jeopardy": (10, "\nAnswer: "), "winograd": (0, " ")}


def test_a_folder_without_the_two_files_is_no_bundle(tmp_path):
    with pytest.raises(BundleError, match="is no bundle of tasks"):
        read_bundle(str(tmp_path))
