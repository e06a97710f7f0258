"""The factories of docs/how-to/other-trainers.md, run as the page shows them on small files of those layouts."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch

from evalcore.loading.checkpoint import load_checkpoint
from evalcore.messages import ModelSpec

PAGE = Path(__file__).resolve().parents[3] / "docs/how-to/other-trainers.md"
#: Stands in for the trainer's classes: last position only without return_logits, as modded-nanogpt's forward.
MODDED = """from dataclasses import dataclass
import torch

@dataclass
class GPTConfig:
    vocab_size: int = 50304
    n_embd: int = 768

class GPT(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed = torch.nn.Embedding(config.vocab_size, config.n_embd)
        self.lm_head = torch.nn.Linear(config.n_embd, config.vocab_size, bias=False)

    def forward(self, idx, targets=None, return_logits=True):
        logits = self.lm_head(self.embed(idx) if targets is not None else self.embed(idx)[:, -1:])
        return (logits if return_logits else None), None
"""
PLAIN = """import torch

def build_plain(config, state):
    model = torch.nn.Sequential()
    model.add_module("embed", torch.nn.Embedding(*state["embed.weight"].shape))
    model.add_module("head", torch.nn.Linear(*reversed(state["head.weight"].shape), bias=False))
    model.load_state_dict(state)
    return model
"""
TOKENS = torch.tensor([[1, 5, 2]])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The page's Python blocks as the files that their first line names; modules are forgotten afterwards."""
    for body in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        (tmp_path / re.match(r"# src/(\w+\.py)", body)[1]).write_text(body)
    (tmp_path / "modded.py").write_text(MODDED)
    (tmp_path / "mymodel.py").write_text(PLAIN)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in (sys.modules[name].__file__ or ""):
            del sys.modules[name]


def test_the_recipe_for_modded_nanogpt_gives_logits_of_every_position(folder):
    embed, head = torch.randn(7, 4), torch.randn(7, 4)
    model = {"_orig_mod.embed.weight": embed, "_orig_mod.lm_head.weight": head}
    torch.save({"step": 1750, "code": "import torch\n", "model": model, "optimizers": [{}]}, folder / "a.pt")
    spec = ModelSpec("modded_factory:build", python_path=(str(folder),))
    loaded = load_checkpoint(folder / "a.pt", spec=spec)
    assert (loaded.step, loaded.context_length, loaded.vocab_size) == (1750, 1024, 7)
    torch.testing.assert_close(loaded.model.logits(TOKENS), embed[TOKENS] @ head.T)


def test_the_recipe_for_lora_merges_the_adapters(folder):
    embed, base, down, up = torch.randn(7, 4), torch.randn(7, 4), torch.randn(2, 4), torch.randn(7, 2)
    state = {"embed.weight": embed, "head.base_layer.weight": base}
    state |= {"head.lora_A.default.weight": down, "head.lora_B.default.weight": up}
    torch.save({"model": state, "step": 30}, folder / "a.pt")
    loaded = load_checkpoint(folder / "a.pt", spec=ModelSpec("lora_factory:build", python_path=(str(folder),)))
    torch.testing.assert_close(loaded.model.logits(TOKENS), embed[TOKENS] @ (base + 16 / 2 * up @ down).T)
