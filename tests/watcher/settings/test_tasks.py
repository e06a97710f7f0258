"""Tasks in the settings: files that are recognised, what is refused, suites, and what the digest of a task covers."""

from __future__ import annotations

import json

import pytest

from watcher.errors import ConfigError
from watcher.settings.eval_sets import changed_files, resolve_sets
from watcher.settings.load import load_settings
from watcher.settings.schema import EvalSettings, SuiteSettings

HELLASWAG = {"ctx": "A man", "ctx_a": "A man", "ctx_b": "", "activity_label": "X", "label": 1, "endings": ["a"] * 4}
PIQA = {"goal": "open it", "sol1": "pull", "sol2": "push"}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def resolve(tmp_path):
    def one(data, **more):
        section = EvalSettings(name="set", data=(str(data),), **more)
        return resolve_sets((section,), tmp_path / "digests.json")[0]

    return one


def bundle(folder, baselines="copa,50\npiqa,50\n"):
    (folder / "eval_data").mkdir(parents=True)
    rows = [{"query": "q", "choices": ["a", "b"], "gold": 0}] * 3
    for name in ("copa", "piqa"):
        written(folder / "eval_data" / f"{name}.jsonl", rows)
    entry = "- label: {0}\n  dataset_uri: {0}.jsonl\n  num_fewshot: [{1}]\n  icl_task_type: multiple_choice\n"
    (folder / "core.yaml").write_text("icl_tasks:\n" + entry.format("copa", 0) + entry.format("piqa", 2))
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\n" + baselines)
    return folder


def test_items_are_recognised_and_a_stream_of_text_stays_one(tmp_path, resolve):
    items = resolve(written(tmp_path / "hellaswag_val.jsonl", [HELLASWAG]))
    assert (items.task.name, items.task.scoring, items.kinds, items.stride) == ("hellaswag", "lm-eval", (), None)
    text = resolve(written(tmp_path / "lambada.jsonl", [{"text": "Hello there"}]))
    assert text.task is None and text.kinds == ("jsonl",)
    lambada = resolve(tmp_path / "lambada.jsonl", task="lambada")
    assert lambada.task.kind == "language_modeling" and lambada.digest() != text.digest()


def test_a_file_that_is_both_is_refused_until_one_of_them_is_named(tmp_path, resolve):
    path = written(tmp_path / "both.jsonl", [{**HELLASWAG, "text": "whole"}])
    with pytest.raises(ConfigError, match="is both: items of hellaswag") as refused:
        resolve(path)
    assert "--task hellaswag" in refused.value.hint and "--format jsonl" in refused.value.hint
    assert resolve(path, task="hellaswag").task.name == "hellaswag"
    assert resolve(path, format="jsonl").task is None


@pytest.mark.parametrize(
    "more, words",
    [
        ({"max_tokens": 10}, "max_tokens has no meaning for a task: use max_items"),
        ({"stride": 8}, "stride has no meaning for a task"),
        ({"shots": 5}, "shots = 5 with scoring 'lm-eval'"),
        ({"scoring": "nanogpt", "shots": 5}, "shots = 5 with scoring 'nanogpt'"),
    ],
)
def test_what_has_no_meaning_for_a_task_is_refused(tmp_path, resolve, more, words):
    with pytest.raises(ConfigError, match=words):
        resolve(written(tmp_path / "h.jsonl", [HELLASWAG]), **more)


def test_what_has_no_meaning_for_text_is_refused(tmp_path, resolve):
    (tmp_path / "val.txt").write_text("text")
    with pytest.raises(ConfigError, match="max_items belongs to a task"):
        resolve(tmp_path / "val.txt", max_items=5)


def test_files_of_different_kinds_do_not_make_one_set(tmp_path):
    paths = [written(tmp_path / "a.jsonl", [HELLASWAG]), written(tmp_path / "b.jsonl", [PIQA])]
    section = EvalSettings(name="set", data=tuple(map(str, paths)))
    with pytest.raises(ConfigError, match=r"do not hold the same: .*hellaswag.*piqa"):
        resolve_sets((section,), tmp_path / "digests.json")


def test_the_digest_covers_file_rendering_shots_scoring_and_tokenizer_but_not_the_name(tmp_path, resolve):
    path = written(tmp_path / "a.jsonl", [{"query": "q", "choices": ["a", "b"], "gold": 0}] * 4)
    changes = ({}, {"shots": 2}, {"max_items": 2}, {"delimiter": "\n"}, {"tokenizer": "bytes"}, {"bos": False})
    digests = [resolve(path, **change).digest() for change in changes]
    digests += [resolve(path, scoring="lm-eval").digest()]
    assert len(set(digests)) == len(changes) + 1
    assert (
        resolve(written(tmp_path / "b.jsonl", [{"query": "q", "choices": ["a", "b"], "gold": 0}] * 4)).digest()
        == (digests[0])
    )
    written(path, [{"query": "q", "choices": ["a", "b"], "gold": 1}] * 4)
    assert resolve(path).digest() != digests[0]


def test_labels_in_a_file_of_their_own_count_and_are_watched(tmp_path, resolve):
    path = written(tmp_path / "valid.jsonl", [PIQA])
    before = resolve(path)
    (tmp_path / "valid-labels.lst").write_text("0\n")
    assert changed_files(before) == [str(tmp_path / "valid-labels.lst")]
    first = resolve(path)
    (tmp_path / "valid-labels.lst").write_text("1\n")
    assert len({before.digest(), first.digest(), resolve(path).digest()}) == 3


def test_a_suite_is_an_eval_set_for_each_of_its_tasks(tmp_path):
    suite = SuiteSettings(name="core", data=str(bundle(tmp_path / "eval_bundle")), tokenizer="bytes", max_items=2)
    specs = resolve_sets((), tmp_path / "digests.json", suites=(suite,))
    assert [(s.name, s.suite, s.task.name, s.task.shots, s.tokenizer) for s in specs] == [
        ("core/copa", "core", "copa", 0, "bytes"),
        ("core/piqa", "core", "piqa", 2, "bytes"),
    ]
    assert {(s.task.random_baseline, s.task.max_items, s.task.scoring) for s in specs} == {(0.5, 2, "core")}


def test_another_baseline_is_another_measurement(tmp_path):
    def digests(folder):
        suite = SuiteSettings(name="core", data=str(folder))
        return [spec.digest() for spec in resolve_sets((), tmp_path / "digests.json", suites=(suite,))]

    one, other = bundle(tmp_path / "v1"), bundle(tmp_path / "v2", "copa,50\npiqa,40.3\n")
    assert digests(one)[0] == digests(other)[0] and digests(one)[1] != digests(other)[1]


def test_a_folder_that_is_no_suite_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"\[\[suite\]\] core: .*core.yaml"):
        resolve_sets((), tmp_path / "digests.json", suites=(SuiteSettings(name="core", data=str(tmp_path)),))


def test_names_by_default_tell_the_shots_and_the_folder(tmp_path):
    (tmp_path / "c.toml").write_text(
        '[[eval]]\ndata = "piqa.jsonl"\n[[eval]]\ndata = "piqa.jsonl"\nshots = 10\n[[suite]]\ndata = "eval_bundle"\n'
    )
    settings = load_settings(tmp_path / "c.toml")
    assert settings.measures == ("piqa", "piqa-10shot", "eval_bundle")
    assert settings.suite[0].data == str(tmp_path / "eval_bundle")


def test_an_unknown_task_is_refused_with_the_nearest_name(tmp_path):
    (tmp_path / "c.toml").write_text('[[eval]]\ndata = "h.jsonl"\ntask = "helaswag"\n')
    with pytest.raises(ConfigError, match="did you mean `hellaswag`"):
        load_settings(tmp_path / "c.toml")
