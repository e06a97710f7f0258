"""A model that was built wrongly and is then corrected: measured again, with the right value and one row shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from tests.integration.test_main_job import ckptwatch
from tests.support.checkpoints import NANOGPT, nanogpt_state
from tests.support.references import NANO, plain_gpt

FIELDS = {name: value for name, value in NANOGPT.items() if name != "dropout"}


def right_loss(state: dict[str, torch.Tensor], tokens: np.ndarray, heads: int) -> float:
    exact, ids = {name: t.double() for name, t in state.items()}, torch.from_numpy(tokens.astype(np.int64))
    total = 0.0
    for start in range(0, len(ids) - 1, 32):
        stop = min(start + 32, len(ids) - 1)
        logits = plain_gpt(exact, heads, F.gelu, ids[None, start:stop], NANO)[0]
        total += F.cross_entropy(logits, ids[start + 1 : stop + 1], reduction="sum").item()
    return total / (len(ids) - 1)


def evaluated(folder: Path, *flags: str) -> list[dict]:
    done = ckptwatch("eval", "model.pt", "--data", "val.npy", "--db", "r.db", "--json", *flags, folder=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_corrected_sidecar_and_corrected_settings_are_measured_again(tmp_path: Path) -> None:
    state = {name: t * (6 if t.dim() > 1 else 1) for name, t in nanogpt_state().items()}
    torch.save(state, tmp_path / "model.pt")
    tokens = np.random.default_rng(0).integers(0, 64, 500).astype(np.uint16)
    np.save(tmp_path / "val.npy", tokens)
    (tmp_path / "config.json").write_text(json.dumps({**FIELDS, "n_head": 4}))
    (first,) = evaluated(tmp_path)
    assert abs(first["loss"] - right_loss(state, tokens, 4)) < 1e-5
    (tmp_path / "config.json").write_text(json.dumps(FIELDS))
    (second,) = evaluated(tmp_path)  # the row of the wrong model is not shown as this file's
    assert abs(second["loss"] - right_loss(state, tokens, 2)) < 1e-5
    assert second["eval_digest"] == first["eval_digest"]
    (tmp_path / "heads.json").write_text('{"n_head": 1}')
    (third,) = evaluated(tmp_path, "--model-config", "heads.json")
    assert abs(third["loss"] - right_loss(state, tokens, 1)) < 1e-5
    assert third["note"].count("configuration from [model] config") == 1
