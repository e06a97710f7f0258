"""`[[sample]]`: prompts inline and from a file, contradictions refused by name, and a frozen set with a digest."""

import pytest

from watcher.errors import ConfigError
from watcher.settings.load import load_settings
from watcher.settings.samples import resolve_samples

BASE = '[[run]]\ndir = "out"\n[[eval]]\nname = "val"\ndata = "val.bin"\n'


def settings_of(tmp_path, text):
    file = tmp_path / "ckptwatch.toml"
    file.write_text(f"{BASE}[[sample]]\n{text}\n")
    return load_settings(file)


def resolved(tmp_path, text, taken=()):
    return resolve_samples(settings_of(tmp_path, text).sample, tmp_path / "digests.json", taken)


def test_prompts_stand_in_the_section_and_in_a_file_beside_it(tmp_path):
    (tmp_path / "more.jsonl").write_text('"a \\n b"\n\n{"prompt": "c", "id": 3}\n')
    (tmp_path / "plain.txt").write_bytes("\ufeffone\r\n\r\ntwo ".encode())
    (spec,) = resolved(tmp_path, 'prompts = ["first"]\nprompts_file = "more.jsonl"\ntokenizer = "gpt2"')
    assert spec.sample.prompts == ("first", "a \n b", "c") and spec.kind == "sample" and spec.paths == ()
    assert (spec.name, spec.tokenizer, spec.sample.mode, spec.sample.max_new_tokens) == (
        "samples",
        "gpt2",
        "greedy",
        64,
    )
    (spec,) = resolved(tmp_path, 'prompts_file = "plain.txt"\ntop_k = 5')
    assert spec.sample.prompts == ("one", "two ")
    assert (spec.sample.mode, spec.sample.temperature, spec.sample.seed) == ("sampled", 1.0, 0)


def test_a_changed_prompt_file_is_another_definition(tmp_path):
    digests = []
    for text in ("one", "two"):
        (tmp_path / "p.txt").write_text(text)
        digests.append(resolved(tmp_path, 'prompts_file = "p.txt"')[0].digest())
    assert len(set(digests)) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs `prompts` or `prompts_file`"),
        ('prompts = ["a"]\nseed = 3', "seed has no effect on greedy texts"),
        ('prompts = ["a"]\ntemperature = 0.0', "leave it out for greedy texts"),
        ('prompts = ["a"]\ntop_p = 2.0', "at most 1"),
        ('prompts = ["a"]\nmax_new_tokens = 0', "max_new_tokens"),
        ('prompts = ["a"]\ntimeout_s = 4000', "timeout_s"),
        ('prompts = ["a"]\ncolour = 1', "colour"),
        ('prompts = ["a"]\n[[sample]]\nprompts = ["b"]', "two [[sample]] sections are named 'samples'"),
    ],
)
def test_what_cannot_be_generated_is_refused_with_its_reason(tmp_path, text, words):
    with pytest.raises(ConfigError) as refused:
        settings_of(tmp_path, text)
    assert words in refused.value.cause


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\n\n", "holds no prompt"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (1 << 20) + b"y", "larger than 1 MiB"),
        (b"x\n" * 101, "there are 101 prompts; give 1 to 100"),
        (None, "there is no file"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_named(tmp_path, content, words):
    if content is not None:
        (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        resolved(tmp_path, 'prompts_file = "p.txt"')
    assert words in refused.value.cause and refused.value.cause.startswith("[[sample]] samples: ")


def test_a_line_of_json_without_a_prompt_is_named(tmp_path):
    (tmp_path / "p.jsonl").write_text('"a"\n{"text": "b"}\n')
    with pytest.raises(ConfigError, match=r"p.jsonl line 2 is neither a JSON string nor an object"):
        resolved(tmp_path, 'prompts_file = "p.jsonl"')


def test_a_section_named_like_an_eval_set_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="an eval set has this name"):
        resolved(tmp_path, 'name = "val"\nprompts = ["a"]', taken=("val",))
