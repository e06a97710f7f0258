"""A run with `[[average]]`: with every new checkpoint one more row, of the mean of the last ones."""

import shutil
import sqlite3
import struct
from contextlib import closing

import pytest
import torch

from tests.support import checkpoints as make
from tests.support.daemon import Site, wait_until
from tests.support.references import NANO, plain_gpt
from watcher.store.migrate import open_for_reading
from watcher.store.read.averages import members_of_means

SEQ_LEN = 16


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path, fake=False, run={"pin": "always"})
    yield made
    made.end()


def rows(site, query, *values):
    with closing(sqlite3.connect(f"file:{site.database}?mode=ro", uri=True)) as database, database:
        return database.execute(query, values).fetchall()


def loss_by_hand(state, data):
    """Mean nats of every target by a forward pass of plain torch, windows of SEQ_LEN, sums in float64."""
    tokens = torch.tensor(struct.unpack(f"<{len(data) // 2}H", data))
    total = 0.0
    for start in range(0, len(tokens) - 1, SEQ_LEN):
        inputs = tokens[start : min(start + SEQ_LEN, len(tokens) - 1)]
        targets = tokens[start + 1 : start + 1 + len(inputs)]
        logits = plain_gpt(state, 2, torch.nn.functional.gelu, inputs[None], NANO)[0].double()
        total += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
    return total / (len(tokens) - 1)


def test_means_of_a_nanogpt_run_that_overwrites_its_file_are_those_computed_by_hand(site):
    """nanoGPT saves out/ckpt.pt in place: the members of a mean are the pinned copies."""
    site.config.write_text(site.config.read_text() + "\n[[average]]\nlast = 3\n\n[[average]]\nema = 0.5\n")
    site.start()
    states = {}
    for seed, step in enumerate((100, 200, 300, 400)):
        states[step] = make.nanogpt_state(seed=seed)
        make.save_nanogpt(site.folder / "ckpt.pt", step=step, seed=seed)
        pinned = "SELECT id FROM checkpoints WHERE weights IS NULL AND step = ? AND spool_path IS NOT NULL"
        wait_until(lambda s=step, pinned=pinned: rows(site, pinned, s))
    wait_until(lambda: len(rows(site, "SELECT id FROM results")) == 4 + 2 + 3, 90)
    data = site.data.read_bytes()
    for weights, shares in (("mean3", [1 / 3, 1 / 3, 1 / 3]), ("ema0.5", [8 / 15, 4 / 15, 2 / 15, 1 / 15])):
        done = dict(rows(site, "SELECT step, loss FROM results WHERE weights = ? AND superseded = 0", weights))
        for step, loss in done.items():
            members = [states[s] for s in sorted(states, reverse=True) if s <= step][: len(shares)]
            share = torch.tensor(shares[: len(members)], dtype=torch.float64)
            share /= share.sum()
            mean = {n: sum(w * m[n].double() for w, m in zip(share, members, strict=True)).float() for n in members[0]}
            assert loss == pytest.approx(loss_by_hand(mean, data), rel=1e-6)
    assert set(rows(site, "SELECT step, checkpoint FROM results WHERE weights = 'mean3'")) == {
        (300, "ckpt.pt#mean3"),
        (400, "ckpt.pt#mean3"),
    }
    assert [step for (step,) in rows(site, "SELECT step FROM curve ORDER BY step")] == [100, 200, 300, 400]
    wait_until(lambda: rows(site, "SELECT count(*) FROM averages WHERE state = 'final'") == [(5,)])
    assert site.stop() == 0


def test_means_of_hugging_face_folders_outlive_the_rotation_of_their_members(tmp_path):
    """save_total_limit = 2 and a mean of three: the member that the Trainer has deleted is the pinned copy."""
    transformers = pytest.importorskip("transformers")
    site = Site(tmp_path, fake=False)
    site.config.write_text(site.config.read_text() + "\n[[average]]\nlast = 3\n")
    config = transformers.GPT2Config(n_layer=1, n_head=2, n_embd=16, vocab_size=64, n_positions=32)
    states = {}
    try:
        site.start()
        for number, step in enumerate((10, 20, 30, 40), 1):
            torch.manual_seed(step)
            model = transformers.GPT2LMHeadModel(config).eval()
            model.save_pretrained(site.folder / f".tmp-{step}")
            (site.folder / f".tmp-{step}" / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
            (site.folder / f".tmp-{step}").rename(site.folder / f"checkpoint-{step}")
            shutil.rmtree(site.folder / f"checkpoint-{step - 20}", ignore_errors=True)
            states[step] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            pinned = "SELECT id FROM checkpoints WHERE weights IS NULL AND spool_path IS NOT NULL"
            wait_until(lambda n=number: len(rows(site, pinned)) >= min(n, 3))
            wait_until(lambda n=number: len(rows(site, "SELECT id FROM checkpoints WHERE weights IS NULL")) == n)
        wait_until(lambda: len(rows(site, "SELECT id FROM results WHERE weights = 'mean3'")) == 2, 90)
        keys = rows(site, "SELECT run, checkpoint, checkpoint_digest FROM results WHERE weights = 'mean3'")
        with closing(open_for_reading(str(site.database))) as store:
            members = members_of_means(store)
        assert [len(members[key]) for key in keys] == [3, 3]  # `prune` keeps those of the best one
        tokens = torch.tensor(struct.unpack(f"<{len(site.data.read_bytes()) // 2}H", site.data.read_bytes()))
        done = dict(rows(site, "SELECT step, loss FROM results WHERE weights = 'mean3'"))
        for step, loss in done.items():
            members = [states[s] for s in (step, step - 10, step - 20)]
            model.load_state_dict({name: sum(m[name].double() for m in members) / 3 for name in members[0]})
            nats = 0.0
            for start in range(0, len(tokens) - 1, SEQ_LEN):
                inputs = tokens[start : min(start + SEQ_LEN, len(tokens) - 1)]
                targets = tokens[start + 1 : start + 1 + len(inputs)]
                with torch.no_grad():
                    logits = model(inputs[None]).logits[0].double()
                nats += torch.nn.functional.cross_entropy(logits, targets, reduction="sum").item()
            assert loss == pytest.approx(nats / (len(tokens) - 1), rel=1e-6)
        assert sorted(done) == [30, 40]
        wait_until(lambda: rows(site, "SELECT count(*) FROM averages WHERE state = 'final'") == [(2,)])
        assert site.stop() == 0
    finally:
        site.end()
