"""The mean of checkpoints: float32, member by member, only of what is one model; the file that holds it."""

import weakref

import pytest
import torch

from evalcore import averaging
from evalcore.archive import summarise
from evalcore.loading import mean as module
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint, load_mean, open_checkpoint
from evalcore.loading.mean import OpenedMember
from evalcore.loading.reading import LoadOptions, OpenOptions
from evalcore.mean_weights import ema_weights
from evalcore.messages import Item, LaunchSpec, Member, ModelSpec
from evalcore.worker.load_item import load_item
from tests.support import checkpoints as make

TOKENS = torch.arange(24).reshape(2, 12)


def opened(paths, weights=None, spec=None):
    spec = spec or ModelSpec()
    weights = weights or [1 / len(paths)] * len(paths)
    return [OpenedMember(p.name, open_checkpoint(p, OpenOptions(spec)), w) for p, w in zip(paths, weights, strict=True)]


def average(*paths, weights=None, spec=None):
    return load_mean(opened(paths, weights, spec), LoadOptions(spec or ModelSpec()))


def by_hand(states, weights):
    """The weighted sum in float64 by plain torch."""
    return {n: sum(w * s[n].double() for s, w in zip(states, weights, strict=True)).float() for n in states[0]}


def three(tmp_path, **more):
    return [make.save_nanogpt(tmp_path / f"{s}.pt", step=s, seed=s, bias=False, **more) for s in (300, 200, 100)]


def refusal(*paths, **more):
    with pytest.raises(CheckpointError) as caught:
        average(*paths, **more)
    return caught.value


def test_weighted_mean_is_the_one_computed_by_hand(tmp_path):
    paths = three(tmp_path)
    states = [torch.load(path, weights_only=True)["model"] for path in paths]
    for weights in ([1 / 3] * 3, [0.5, 0.3, 0.2]):
        expected = by_hand(states, weights)
        torch.save({**torch.load(paths[0], weights_only=True), "model": expected}, tmp_path / "hand.pt")
        with average(*paths, weights=weights) as loaded, load_checkpoint(tmp_path / "hand.pt") as hand:
            torch.testing.assert_close(loaded.model(TOKENS), hand.model(TOKENS), rtol=1e-6, atol=1e-6)
            assert (loaded.step, loaded.family, loaded.logged_val_loss) == (300, "nanogpt", None)
            assert "mean of 3 checkpoints: 300.pt (step 300) x" in loaded.notes[-1]


def test_members_in_bfloat16_are_averaged_in_float32(tmp_path):
    paths = []
    for seed in (0, 1, 2):
        state = {n: t.bfloat16() for n, t in make.nanogpt_state(seed=seed).items()}
        state["lm_head.weight"] = state["transformer.wte.weight"]
        paths.append(tmp_path / f"{seed}.pt")
        torch.save({"model": state, "model_args": make.NANOGPT, "iter_num": seed}, paths[-1])
    values = dict(average(*paths).model.named_parameters())
    expected = by_hand([torch.load(p, weights_only=True)["model"] for p in paths], [1 / 3] * 3)
    table = next(v for n, v in values.items() if v.shape == (64, 16))
    torch.testing.assert_close(table, expected["transformer.wte.weight"], rtol=1e-6, atol=1e-7)
    assert not torch.equal(table, table.bfloat16().float())


def test_memory_is_the_model_and_one_tensor_of_a_member(tmp_path, monkeypatch):
    """One for each of the two reading threads."""
    alive, most = set(), []

    def counted(member, ref, inner=module._tensor):
        value = inner(member, ref)
        alive.add(id(value))
        weakref.finalize(value, alive.discard, id(value))
        most.append(len(alive))
        return value

    monkeypatch.setattr(module, "_tensor", counted)
    average(*three(tmp_path))
    assert len(most) == 3 * 15 and max(most) <= 2  # 15 tensors of this model, each read once from each member


def test_what_is_not_one_model_is_refused_with_the_member_and_the_difference(tmp_path):
    first = make.save_nanogpt(tmp_path / "a.pt")
    for name, save, words in (
        ("heads", lambda p: make.save_nanogpt(p, n_head=4), "n_head = 2 and 4"),
        ("wide", lambda p: make.save_nanogpt(p, n_embd=32), "wte.weight: float32 [64, 16] and float32 [64, 32]"),
        ("deep", lambda p: make.save_nanogpt(p, n_layer=3), "only one has transformer.h.2"),
        ("rose", make.save_rosellm, "different models (nanogpt and rosellm)"),
    ):
        error = refusal(first, save(tmp_path / f"{name}.pt"))
        assert error.kind == "shape" and f"a.pt and {name}.pt" in error.reason and words in error.reason


def test_a_damaged_member_is_corrupt(tmp_path):
    paths = three(tmp_path)
    data = bytearray(paths[2].read_bytes())
    wanted = make.nanogpt_state({"bias": False}, seed=100)["transformer.wte.weight"].numpy().tobytes()
    data[data.index(wanted) + 9] ^= 1
    paths[2].write_bytes(data)
    assert refusal(*paths).kind == "corrupt"


def test_a_member_that_is_gone_or_another_version_is_named(tmp_path):
    paths = three(tmp_path)
    digests = [summarise(path).digest for path in paths]
    members = tuple(Member(str(p), d, p.stat().st_size, 1 / 3, p.name) for p, d in zip(paths, digests, strict=True))
    item = Item(str(paths[0]), "sha256:mean", 0, (), members=members)
    paths[1].unlink()
    with pytest.raises(CheckpointError) as caught:
        load_item(item, LaunchSpec("l"), LoadOptions(), lambda done, total: None)
    assert caught.value.kind == "vanished" and "200.pt, a member of the mean, is gone" in caught.value.reason
    make.save_nanogpt(paths[1], step=200, seed=7, bias=False)
    with pytest.raises(CheckpointError) as caught:
        load_item(item, LaunchSpec("l"), LoadOptions(), lambda done, total: None)
    assert caught.value.kind == "superseded" and "200.pt, a member of the mean" in caught.value.reason


def test_content_digest_is_of_members_and_weights(tmp_path):
    paths = three(tmp_path)
    digest = average(*paths).content_digest
    assert digest == average(*paths).content_digest
    assert digest != average(*paths, weights=[0.5, 0.3, 0.2]).content_digest
    assert digest != average(paths[0], paths[1]).content_digest


def test_a_factory_gets_the_mean_of_all_tensors(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "    def __init__(self, w):\n"
        "        super().__init__(); self.w = torch.nn.Parameter(w.float())\n"
        "    def forward(self, t):\n"
        "        return self.w[t]\n"
        "def make(config, state):\n"
        "    assert state['count'].dtype == torch.int64 and state['count'].item() == 7\n"
        "    return M(state['w'])\n"
    )
    paths = []
    for value in (1.0, 5.0):
        paths.append(tmp_path / f"{value}.pt")
        torch.save({"model": {"w": torch.full((8, 8), value), "count": torch.tensor(6 + int(value))}}, paths[-1])
    spec = ModelSpec("mine:make", {"a": 1}, python_path=(str(tmp_path),))
    assert average(*paths, spec=spec).model(torch.zeros(1, 2, dtype=torch.long)).eq(3.0).all()


def test_the_verb_writes_a_file_that_torch_and_our_reader_load(tmp_path, capsys):
    paths, out = three(tmp_path), tmp_path / "mean.pt"
    assert averaging.main([*map(str, sorted(paths)), "--out", str(out)]) == 0
    payload = torch.load(out, weights_only=True)
    assert payload["step"] == 300 and payload["mean_of"][0] == str(paths[0])
    assert payload["model"]["lm_head.weight"].data_ptr() == payload["model"]["transformer.wte.weight"].data_ptr()
    with load_checkpoint(out) as written, average(*paths) as live:
        assert torch.equal(written.model(TOKENS), live.model(TOKENS))
        assert (written.family, written.step) == ("nanogpt", 300)
    assert averaging.main([*map(str, paths), "--out", str(out)]) == 2
    assert f"{out} exists" in capsys.readouterr().err
    assert averaging.main([str(paths[0]), str(paths[0]), "--out", str(out), "--force"]) == 8
    assert averaging.main([str(paths[0]), str(tmp_path / "none.pt"), "--out", str(out), "--force"]) == 4
    assert load_checkpoint(out).step == 300


def test_exponential_weights_sum_to_one_and_stop_at_a_small_weight():
    assert ema_weights(0.5, 3) == pytest.approx([4 / 7, 2 / 7, 1 / 7])
    weights = ema_weights(0.9, 1000)
    assert len(weights) == 66 and sum(weights) == pytest.approx(1)  # 0.1 * 0.9^65 is the last one above 1e-4
    assert weights[1] / weights[0] == pytest.approx(0.9)
