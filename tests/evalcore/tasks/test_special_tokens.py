"""The text of a special token within an item: each convention encodes it as the tool that it follows does.

nanochat's tokenizer (nanochat/tokenizer.py, `encode`) takes it for ordinary text; lm-evaluation-harness gives texts to
a Hugging Face tokenizer, which takes it for the token. nanochat's own wrapper of a tokenizer.json does so, too.
"""

import pytest

from evalcore.tasks.prepare import prepare
from evalcore.tasks.spec import task_spec

TEXT = "the <|endoftext|> of the"
ROW = {"context": TEXT, "continuation": "world"}


def tokens_of(scoring, tokenizer):
    task = task_spec("language_modeling", scoring=scoring)
    return prepare(task, [ROW], tokenizer).items[0].requests[0].tokens.tolist()


def test_core_takes_the_text_of_a_special_token_for_text_as_nanochat_does(tokenizer):
    ordinary = tokenizer.encoding.encode_ordinary(f"{TEXT} world")
    assert tokenizer.eos_id not in ordinary
    assert tokens_of("core", tokenizer) == [tokenizer.bos_id, *ordinary]


@pytest.mark.parametrize("scoring", ["lm-eval", "nanogpt"])
def test_the_other_conventions_take_it_for_the_token(scoring, tokenizer):
    ids = tokenizer.encoding.encode(f"{TEXT} world", allowed_special="all")
    assert ids.count(tokenizer.eos_id) == 1
    assert tokens_of(scoring, tokenizer) == ids


def test_a_tokenizer_json_takes_it_for_the_token_under_every_convention(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    from evalcore.data.tokenizers import build_tokenizer

    words = Tokenizer(
        models.WordLevel({word: at for at, word in enumerate(("?", "the", "of", "world"))}, unk_token="?")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<|endoftext|>"])
    words.save(str(tmp_path / "tokenizer.json"))
    built = build_tokenizer(str(tmp_path / "tokenizer.json"))
    assert tokens_of("core", built) == [4, 1, 4, 2, 1, 3]
    assert tokens_of("lm-eval", built) == [1, 4, 2, 1, 3]
