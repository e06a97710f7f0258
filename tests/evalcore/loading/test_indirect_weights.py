"""Weights that do not stand under their own names: the refusal names the cause and a remedy that works; an average in a
list is noted."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from evalcore.archive import ArchiveError, summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make

NAME = "transformer.h.0.attn.c_attn"


def pruned(linear):
    prune.l1_unstructured(linear, "weight", 0.5)
    return linear


def save(path, state, **more):
    torch.save({"model": state, "model_args": make.NANOGPT, "iter_num": 7, **more}, path)
    return path


def changed_by(change):
    """nanoGPT's state dict, one linear layer of it as `change` leaves it."""
    state = make.nanogpt_state()
    linear = nn.Linear(16, 48)
    linear.load_state_dict({part: state.pop(f"{NAME}.{part}") for part in ("weight", "bias")})
    return state | {f"{NAME}.{name}": tensor for name, tensor in change(linear).state_dict().items()}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("change", "what", "remedy"),
    [
        (pruned, "pruned with torch.nn.utils.prune", "prune.remove(module, 'weight')"),
        (weight_norm, "torch.nn.utils.weight_norm", "remove_weight_norm(module)"),
        (spectral_norm, "torch.nn.utils.spectral_norm", "remove_spectral_norm(module)"),
        (parametrizations.weight_norm, "torch.nn.utils.parametrize", "remove_parametrizations(module, 'weight')"),
        (parametrizations.spectral_norm, "torch.nn.utils.parametrize", "remove_parametrizations(module, 'weight')"),
        (parametrizations.orthogonal, "torch.nn.utils.parametrize", "remove_parametrizations(module, 'weight')"),
    ],
)
def test_a_weight_in_parts_is_refused_with_its_cause_and_how_to_save_it_plain(tmp_path, change, what, remedy):
    path = save(tmp_path / "ckpt.pt", changed_by(change))
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.kind == "unsupported"
    assert what in caught.value.reason and f"{NAME}.weight" in caught.value.reason
    assert remedy in caught.value.hint and "model.factory" in caught.value.hint
    assert what in summarise(path).note and remedy in summarise(path).note


def test_a_file_of_pruned_weights_loads_after_what_the_hint_says(tmp_path):
    s = changed_by(pruned)
    right = s[f"{NAME}.weight_orig"] * s[f"{NAME}.weight_mask"]
    assert 0 < (right == 0).sum() < right.numel()
    for n in [name.removesuffix("_orig") for name in s if name.endswith("_orig")]:
        s[n] = s.pop(n + "_orig") * s.pop(n + "_mask")
    with load_checkpoint(save(tmp_path / "ckpt.pt", s)) as loaded:
        assert any(torch.equal(parameter, right) for parameter in loaded.model.parameters())


def test_tensors_that_only_end_alike_are_no_parts(tmp_path):
    from evalcore.archive.meaning.indirect_weights import weights_in_parts

    with load_checkpoint(save(tmp_path / "ckpt.pt", make.nanogpt_state())) as loaded:
        assert loaded.notes == []
    state = {"gate_g": torch.ones(8, 4), "gate_v": torch.ones(8, 4), "a_orig": torch.ones(4), "b_mask": torch.ones(4)}
    assert weights_in_parts(state) is None  # a gate of two matrices


def test_an_average_as_a_list_is_noted_with_the_reason_and_refused_by_its_name(tmp_path):
    state = make.nanogpt_state()
    ema = {"decay": 0.999, "num_updates": 7, "shadow_params": list(state.values()), "collected_params": None}
    path = save(tmp_path / "ckpt.pt", state, ema=ema)
    note = f"not used: ema.shadow_params, a list of {len(state)} tensors without names"
    assert note in summarise(path).note and "ema.copy_to(model.parameters())" in summarise(path).note
    with load_checkpoint(path) as loaded:
        assert any(note in said for said in loaded.notes)
    with pytest.raises(CheckpointError, match=r"ema[.]shadow_params is a list of tensors without names"):
        load_checkpoint(path, spec=ModelSpec(state="ema"))
    with pytest.raises(ArchiveError, match=r"there is model; ema[.]shadow_params"):
        summarise(path, state="ema")
