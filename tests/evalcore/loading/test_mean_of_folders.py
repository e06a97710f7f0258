"""The mean of checkpoints that are folders: every kind equals the mean computed by hand, and members are verified."""

import json
import shutil
import warnings

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file

from evalcore import averaging
from evalcore.loading import mean as module
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint, load_mean, open_checkpoint
from evalcore.loading.mean import OpenedMember
from evalcore.loading.reading import LoadOptions, OpenOptions
from evalcore.messages import ModelSpec
from tests.evalcore.models import test_litgpt as litgpt
from tests.evalcore.models import test_nanochat as nanochat
from tests.support import checkpoints as make

TOKENS = torch.arange(24).reshape(2, 12)
WEIGHTS = [0.5, 0.3, 0.2]  # the newest first


def average(paths):
    spec = ModelSpec()
    members = [
        OpenedMember(p.name, open_checkpoint(p, OpenOptions(spec)), w) for p, w in zip(paths, WEIGHTS, strict=True)
    ]
    return load_mean(members, LoadOptions(spec))


def by_hand(states):
    """The weighted sum in float64 by plain torch; what is no floating-point tensor is the newest member's."""
    first = states[0]
    return {
        n: sum(w * s[n].double() for w, s in zip(WEIGHTS, states, strict=True)).float() if t.is_floating_point() else t
        for n, t in first.items()
    }


def assert_equal(loaded, expected):
    """expected: a checkpoint of the mean made by hand."""
    with loaded, load_checkpoint(expected) as hand, torch.inference_mode():
        left, right = (nats_of(one.model(TOKENS)) for one in (loaded, hand))
        assert left == pytest.approx(right, rel=1e-6)


def nats_of(logits):
    """Mean nats of the next tokens."""
    targets = TOKENS[:, 1:].flatten()
    return torch.nn.functional.cross_entropy(logits[:, :-1].double().flatten(0, 1), targets).item()


@pytest.fixture(scope="module")
def llamas(tmp_path_factory):
    """Three checkpoint-N folders of transformers, the newest first, and the model with their mean by hand."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    folder, states, paths = tmp_path_factory.mktemp("llamas"), [], []
    for step in (30, 20, 10):
        torch.manual_seed(step)
        model = transformers.LlamaForCausalLM(config).eval()
        paths.append(folder / f"checkpoint-{step}")
        model.save_pretrained(paths[-1])
        (paths[-1] / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    model.load_state_dict(by_hand(states))
    with torch.no_grad():
        return paths, model(TOKENS).logits


def in_shards(source, target, suffix):
    """The same folder with its weights in two files and an index, as save_pretrained writes large models."""
    shutil.copytree(source, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    placed = {name: f"{stem}-0000{1 + i % 2}-of-00002.{suffix}" for i, name in enumerate(tensors)}
    for file in set(placed.values()):
        part = {name: tensors[name].clone() for name in tensors if placed[name] == file}
        (save_file if suffix == "safetensors" else torch.save)(part, target / file)
    (target / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": placed}))
    return target


@pytest.mark.parametrize("layout", ["one file", "safetensors", "bin"])
def test_mean_of_hugging_face_folders_is_what_transformers_computes_with_the_mean_by_hand(tmp_path, llamas, layout):
    paths, expected = llamas
    if layout != "one file":
        paths = [in_shards(path, tmp_path / path.name, layout) for path in paths]
    with average(paths) as loaded, torch.inference_mode():
        assert nats_of(loaded.model(TOKENS)) == pytest.approx(nats_of(expected), rel=1e-6)
        assert (loaded.step, loaded.family) == (30, "hf-llama")
        said = "mean of 3 checkpoints: checkpoint-30 (step 30) x 0.5, checkpoint-20 (step 20) x 0.3"
        assert any(note.startswith(said) for note in loaded.notes)


def test_memory_of_a_mean_of_folders_is_the_model_and_one_tensor_per_reading_thread(llamas, monkeypatch):
    paths, _ = llamas
    alive, most = [0], []

    class Counted:
        def __init__(self, value):
            self.value = value
            alive[0] += 1

        def float(self):
            alive[0] -= 1
            return self.value.float()

    def counted(member, ref, inner=module._tensor):
        value = Counted(inner(member, ref))
        most.append(alive[0])
        return value

    monkeypatch.setattr(module, "_tensor", counted)
    average(paths).close()
    assert len(most) == 3 * 21 and max(most) <= 2  # 21 tensors of this model, each read once from each member


def test_mean_of_a_model_type_that_only_transformers_builds_equals_the_one_by_hand(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPTNeoXConfig(
        vocab_size=61, hidden_size=24, intermediate_size=40, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=32,
    )  # fmt: skip
    states, paths = [], []
    for seed in (3, 2, 1):
        torch.manual_seed(seed)
        model = transformers.GPTNeoXForCausalLM(config).eval()
        paths.append(tmp_path / f"checkpoint-{seed}")
        model.save_pretrained(paths[-1])
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    model.load_state_dict(by_hand(states))
    with average(paths) as loaded, torch.inference_mode():
        assert nats_of(loaded.model.logits(TOKENS)) == pytest.approx(nats_of(model(TOKENS).logits), rel=1e-6)
    other = json.loads((paths[1] / "config.json").read_text())
    (paths[1] / "config.json").write_text(json.dumps({**other, "use_parallel_residual": False}))
    with pytest.raises(CheckpointError, match="use_parallel_residual = True and False"):
        average(paths)


def litgpt_folders(folder):
    config = {**litgpt.BASE}
    for seed, step in enumerate((30, 20, 10)):
        state = {n: t + 0.1 * seed * torch.sin(torch.arange(t.numel())).view(t.shape)
                 for n, t in litgpt.state_of(config).items()}  # fmt: skip
        place = folder / f"step-{step:08d}"
        place.mkdir()
        litgpt.save(place, state, config)
        yield place, state, lambda mean, where: (where.mkdir(), litgpt.save(where, mean, config))


def nanochat_pairs(folder):
    for seed in (0, 1, 2):
        state = {n: t + 0.1 * seed * torch.sin(torch.arange(t.numel())).view(t.shape)
                 for n, t in nanochat.state_of("smeared").items()}  # fmt: skip
        place = folder / f"d{seed}"
        place.mkdir()
        yield nanochat.save(place, state), state, lambda mean, where: (where.mkdir(), nanochat.save(where, mean))


def dcp_folders(folder):
    for seed, step in enumerate((30, 20, 10)):
        state = make.nanogpt_state(seed=seed)
        more = {"model_args": make.NANOGPT, "iter_num": step}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.save({"model": state, **more}, checkpoint_id=folder / f"step-{step}", no_dist=True)
        yield (
            folder / f"step-{step}",
            state,
            lambda mean, where: (
                where.mkdir(),
                torch.save({"model": mean, "model_args": make.NANOGPT}, where / "ckpt.pt"),
            ),
        )


@pytest.mark.parametrize("kind", [litgpt_folders, nanochat_pairs, dcp_folders])
def test_mean_of_other_folders_equals_the_checkpoint_of_the_mean_by_hand(tmp_path, kind):
    paths, states, savers = zip(*kind(tmp_path), strict=True)
    savers[0](by_hand(states), tmp_path / "hand")
    expected = next(iter(sorted((tmp_path / "hand").glob("*.pt")))) if kind is not litgpt_folders else tmp_path / "hand"
    assert_equal(average(paths), expected)


def test_ckptwatch_average_of_folders_writes_a_file_that_evaluates_as_the_mean(tmp_path, llamas, capsys):
    paths, _ = llamas
    out = tmp_path / "mean.pt"
    assert averaging.main([*map(str, paths), "--out", str(out)]) == 0, capsys.readouterr().err
    states = [load_file(path / "model.safetensors") for path in paths]
    written = torch.load(out, weights_only=True)
    for name, tensor in written["model"].items():
        hand = sum(state[name].double() for state in states) / 3
        torch.testing.assert_close(tensor.double(), hand, rtol=1e-6, atol=1e-7)
    assert written["step"] == 30
    shutil.copytree(paths[0], tmp_path / "hand")
    save_file({n: t.contiguous() for n, t in written["model"].items()}, tmp_path / "hand" / "model.safetensors")
    assert_equal(load_checkpoint(out), tmp_path / "hand")


def test_a_member_folder_that_is_damaged_or_another_model_is_refused_by_its_name(tmp_path, llamas):
    paths = [in_shards(path, tmp_path / path.name, "bin") for path in llamas[0]]
    shard = paths[2] / "pytorch_model-00001-of-00002.bin"
    data = bytearray(shard.read_bytes())
    wanted = next(iter(torch.load(shard, weights_only=True).values())).numpy().tobytes()
    data[data.index(wanted) + 9] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        average(paths)
    assert caught.value.kind == "corrupt"
    config = json.loads((paths[1] / "config.json").read_text())
    (paths[1] / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.1}))
    with pytest.raises(CheckpointError, match="checkpoint-30 and checkpoint-20 differ in their configuration"):
        average(paths)
