"""Samples with real processes: one loss set and one [[sample]] over three checkpoints, killed in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from evalcore.data.tokenizers import build_tokenizer
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.sampling.sample_model import SampleRun
from evalcore.sampling.spec import sample_spec
from tests.support.checkpoints import save_nanogpt
from tests.support.daemon import Site, wait_until

SIZES = {"vocab_size": 256, "block_size": 64}
STEPS = (100, 200, 300)
DONE = "SELECT count(*) FROM samples"
JOBS = "FROM jobs j JOIN eval_sets e ON e.id = j.eval_set_id"
OPEN = """SELECT e.kind, e.name FROM attempts a JOIN jobs j ON j.id = a.job_id JOIN eval_sets e ON e.id = j.eval_set_id
          WHERE a.started_at IS NOT NULL AND a.outcome IS NULL"""


def site_with_samples(root: Path, **more: str) -> Site:
    site = Site(root, fake=False, run={"name": "gpt"})
    keys = {"prompts": '["The ship", "a"]', "max_new_tokens": "8", "top_k": "20", "seed": "5", "tokenizer": '"bytes"'}
    lines = [f"{key} = {value}" for key, value in {**keys, **more}.items() if value]
    untold = ["[[sample]]", 'name = "untold"', 'prompts = ["a"]']
    sections = ["[[sample]]", 'name = "stories"', *lines, *untold, site.config.read_text()]
    site.config.write_text("\n".join(sections))
    for step in STEPS:
        save_nanogpt(site.folder / f"ckpt_{step}.pt", step=step, seed=step, **SIZES)
    return site


def test_losses_come_first_and_a_killed_daemon_leaves_one_row_for_each_checkpoint_and_prompt(tmp_path: Path) -> None:
    site = site_with_samples(tmp_path)
    try:
        site.start(CKPTWATCH_WORKER_FAILPOINT="mid_sample:hang")
        wait_until(lambda: site.query(OPEN) == [("sample", "stories")], within_s=60)
        assert site.query("SELECT count(*) FROM results") == [(3,)]  # every loss, before the first sample
        site.kill()
        once = site.once()
        assert once.returncode == 0, once.stderr
        found = site.query(
            "SELECT step, prompt, text, tokens, mode, seed, top_k, temperature FROM sample_texts ORDER BY 1, 2"
        )
        spec = sample_spec(("The ship", "a"), max_new_tokens=8, top_k=20, seed=5)
        expected = []
        for step in STEPS:
            with load_checkpoint(site.folder / f"ckpt_{step}.pt") as loaded:
                facts = (loaded.model, loaded.vocab_size, loaded.context_length, loaded.config)
                run = SampleRun(*facts, build_tokenizer("bytes"), torch.device("cpu"))
                texts = [(t.prompt, t.text.replace("\0", "\u2400"), len(t.tokens)) for t in run.texts(spec)]
                expected += [(step, *text, "sampled", 5, 20, 1.0) for text in texts]
        assert found == expected
        stored = json.loads(site.cli("samples", "--prompt", "SHIP", "--step", "200:", "--json").stdout)
        assert [(row["step"], row["text"]) for row in stored] == [(expected[i][0], expected[i][2]) for i in (2, 4)]
        assert site.query("SELECT count(*) FROM results") == [(3,)]
        # no tokenizer is known for a nanoGPT file: refused with the remedy, and exit status 0 all the same
        failed = site.query(f"SELECT e.name, j.kind, reason, hint {JOBS} WHERE state <> 'succeeded'")
        assert [row[:2] for row in failed] == [("untold", "data")] * 3
        assert "no tokenizer is known for" in failed[0][2] and "`tokenizer` in [[sample]]" in failed[0][3]
        assert site.query("SELECT count(*) FROM failures") == [(0,)]
        listed = json.loads(site.cli("queue", "list", "--failed", "--json").stdout)
        assert [row["eval_set"] for row in listed] == ["untold"] * 3
    finally:
        site.end()


def test_a_checkpoint_that_comes_while_texts_are_generated_gets_its_loss_first(tmp_path: Path) -> None:
    site = site_with_samples(tmp_path, max_new_tokens="100000", timeout_s="600")
    try:
        site.start(CKPTWATCH_WORKER_FAILPOINT="mid_sample:sleep0.02")
        wait_until(lambda: site.query(OPEN) == [("sample", "stories")], within_s=60)
        save_nanogpt(site.folder / "ckpt_400.pt", step=400, seed=400, **SIZES)
        wait_until(lambda: site.query("SELECT 1 FROM results WHERE step = 400"), within_s=60)
        assert site.query(DONE) == [(0,)]
        put_off = "SELECT outcome, charged FROM attempts WHERE reason = 'a checkpoint waits for its loss'"
        assert set(site.query(put_off)) == {("released", 0)}
    finally:
        site.end()
