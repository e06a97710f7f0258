"""One small model and one small byte-pair tokenizer for all tests of tasks."""

import pytest

from evalcore.data.tokenizers import build_tokenizer
from evalcore.loading.checkpoint import load_checkpoint
from tests.support.checkpoints import save_nanogpt
from tests.support.tasks import WORDS, PlainScorer
from tests.support.tokenizers import save_ranks

CONTEXT = 96


@pytest.fixture(scope="session")
def task_folder(tmp_path_factory):
    """ckpt.pt, a nanoGPT of 400 ids and 96 positions, and words.tiktoken with its `<|endoftext|>`."""
    folder = tmp_path_factory.mktemp("tasks")
    save_ranks(folder / "words.tiktoken", " ".join(WORDS * 3) + " Question: Answer:", 100)
    save_nanogpt(folder / "ckpt.pt", block_size=CONTEXT, vocab_size=400)
    return folder


@pytest.fixture(scope="session")
def tokenizer(task_folder):
    return build_tokenizer(str(task_folder / "words.tiktoken"))


@pytest.fixture(scope="session")
def model(task_folder):
    with load_checkpoint(task_folder / "ckpt.pt") as loaded:
        return loaded.model


@pytest.fixture(scope="session")
def plain(model):
    return PlainScorer(model, CONTEXT)
