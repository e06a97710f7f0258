"""Items without a named tokenizer, where gpt2's ranks cannot be had."""

from __future__ import annotations

import pytest

from evalcore.data import DataError, open_stream
from evalcore.tasks.prepare import prepare
from evalcore.tasks.spec import task_spec


@pytest.fixture
def no_ranks(monkeypatch):
    import tiktoken

    def offline(name):
        raise ConnectionError(name)

    monkeypatch.setattr(tiktoken, "get_encoding", offline)


def test_a_default_tokenizer_that_is_not_at_hand_is_refused_as_the_default_that_it_is(no_ranks, tmp_path):
    (tmp_path / "val.txt").write_text("some text " * 10)
    with pytest.raises(DataError, match="no tokenizer was given, so it is gpt2") as of_task:
        prepare(task_spec("piqa"), [{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}])
    with pytest.raises(DataError, match="no tokenizer was given, so it is gpt2"):
        open_stream(tmp_path / "val.txt")
    assert "meta.pkl" in of_task.value.hint
    with pytest.raises(DataError) as named:
        prepare(task_spec("piqa"), [{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}], "gpt2")
    assert "no tokenizer was given" not in named.value.reason
