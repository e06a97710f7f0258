"""The content digest is of the bytes that were read: not of names, of other records, or of what a directory claims."""

from __future__ import annotations

import shutil

import torch

from evalcore.loading.checkpoint import load_checkpoint
from tests.support.checkpoints import save_rosellm


def content_of(path) -> str:
    with load_checkpoint(path) as loaded:
        return loaded.content_digest


def test_a_copy_and_a_file_saved_again_under_another_name_have_the_same_content(tmp_path):
    first = save_rosellm(tmp_path / "step_1.pt", step=1, seed=1)
    copy = shutil.copy(first, tmp_path / "copy.pt")
    again = save_rosellm(tmp_path / "a_longer_name_of_the_archive.pt", step=1, seed=1)
    assert content_of(first).startswith("sha256:")
    assert content_of(first) == content_of(copy) == content_of(again)


def test_other_weights_have_another_content_and_one_changed_number_is_enough(tmp_path):
    first = save_rosellm(tmp_path / "a.pt", step=1, seed=1)
    payload = torch.load(first, weights_only=False)
    state = next(value for value in payload.values() if isinstance(value, dict) and "lm_head.weight" in value)
    name = next(iter(state))
    state[name].view(-1)[0] += 1.0
    torch.save(payload, tmp_path / "b.pt")
    assert content_of(first) != content_of(tmp_path / "b.pt")
    assert content_of(first) != content_of(save_rosellm(tmp_path / "c.pt", step=1, seed=2))


def test_content_that_nobody_asks_for_is_not_computed_and_the_model_is_the_same(tmp_path):
    path = save_rosellm(tmp_path / "a.pt", step=1, seed=1)
    with load_checkpoint(path) as asked, load_checkpoint(path, wants_content=False) as unasked:
        assert (unasked.content_digest, unasked.read_bytes) == ("", asked.read_bytes)
        parameters = zip(asked.model.parameters(), unasked.model.parameters(), strict=True)
        assert all(torch.equal(one, other) for one, other in parameters)
