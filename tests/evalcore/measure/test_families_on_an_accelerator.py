"""Every family, every kind of task, means and DCP folders on the simulated accelerator: the values of the CPU."""

import logging

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from evalcore import evaluate_task
from evalcore.data.tokenizers import build_tokenizer
from evalcore.loading.checkpoint import load_checkpoint, load_mean, open_checkpoint
from evalcore.loading.mean import OpenedMember
from evalcore.loading.reading import LoadOptions, OpenOptions
from evalcore.measure.evaluate import evaluate
from evalcore.measure.scorer import linear_dtype
from evalcore.models.linear import linear_layers
from evalcore.tasks import scoring_run
from tests.evalcore.models import test_hf_relatives as relatives
from tests.evalcore.models import test_litgpt as litgpt
from tests.evalcore.models import test_nanochat as nanochat
from tests.support import checkpoints as make
from tests.support.dcp_writer import LLAMA, llama_state
from tests.support.simulated_accelerator import DeviceTensor, simulated
from tests.support.tasks import rows_of

logging.getLogger("transformers").setLevel(logging.ERROR)

TOKENS = np.arange(3, 203, dtype=np.uint16) % 55
WINDOW, BATCH, BATCHES = 16, 4, 4  # 12 windows of 16 targets and one of 7: 3 batches and a short one
LOWER = torch.bfloat16


def relative(kind):
    def save(folder):
        model_type, more = relatives.KINDS[kind]
        relatives.model_of(model_type, **more).save_pretrained(folder / "hf")
        return folder / "hf"

    return save


def llama2c(folder):
    torch.save({"model": llama_state(), "model_args": LLAMA | {"max_seq_len": 32}, "iter_num": 5}, folder / "ckpt.pt")
    return folder / "ckpt.pt"


def gpt2_state(folder):
    transformers = relatives.transformers
    config = transformers.GPT2Config(vocab_size=96, n_positions=32, n_embd=32, n_layer=2, n_head=4)
    state = transformers.GPT2LMHeadModel(config).state_dict()
    return make.save_hf_state(folder / "a.pt", config.to_dict(), state)


def through_transformers(folder):
    """A model type that transformers alone knows."""
    transformers = relatives.transformers
    config = transformers.GPTNeoXConfig(
        vocab_size=96, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=32,
    )  # fmt: skip
    transformers.GPTNeoXForCausalLM(config).save_pretrained(folder / "hf")
    return folder / "hf"


SAVERS = {
    "rosellm": lambda folder: make.save_rosellm(folder / "a.pt"),
    "rosellm, tied": lambda folder: make.save_rosellm(folder / "a.pt", tied=True),
    "nanogpt": lambda folder: make.save_nanogpt(folder / "a.pt"),
    "build-nanogpt": lambda folder: make.save_build_nanogpt(folder / "a.pt"),
    "lightning": lambda folder: make.save_lightning(folder / "a.ckpt"),
    "hf gpt2 state": gpt2_state,
    "llama2.c": llama2c,
    "olmo": lambda folder: relatives.save_olmo(
        folder, relatives.olmo_state(relatives.model_of("olmo", clip_qkv=1.5)), relatives.OLMO
    ),
    "through transformers": through_transformers,
}
SAVERS |= {f"nanochat, {v}": (lambda v: lambda folder: nanochat.save(folder, nanochat.state_of(v)))(v)
           for v in ("lambdas", "smeared")}  # fmt: skip
SAVERS |= {f"litgpt, {k}": (lambda k: lambda folder: litgpt.save(
    folder, litgpt.state_of(litgpt.BASE | litgpt.KINDS[k]), litgpt.BASE | litgpt.KINDS[k]))(k)
    for k in litgpt.KINDS}  # fmt: skip
SAVERS |= {k: relative(k) for k in (
    "llama with llama3 rope", "mistral", "qwen3", "smollm3", "gemma", "gemma2",
    "gemma3")}  # fmt: skip


@pytest.mark.parametrize("family", SAVERS)
def test_every_family_gives_the_value_of_the_cpu_and_the_host_waits_once_a_batch(tmp_path, family):
    path = SAVERS[family](tmp_path)
    on_cpu = load_checkpoint(path).model
    settings = {"seq_len": WINDOW, "batch_size": BATCH}
    expected = evaluate(on_cpu, TOKENS, dtype="float32", **settings).loss
    with simulated() as device:
        loaded = load_checkpoint(path, device="sim")
        tensors = [*loaded.model.parameters(), *loaded.model.buffers()]
        assert all(isinstance(t.data, DeviceTensor) or isinstance(t, DeviceTensor) for t in tensors)
        result = evaluate(loaded.model, TOKENS, dtype="float32", **settings)  # the first copies rotary frequencies
        assert result.loss == pytest.approx(expected, rel=1e-6)
        device.syncs.clear()
        lower = evaluate(loaded.model, TOKENS, **settings)
        assert lower.dtype == "bfloat16" and lower.loss == pytest.approx(expected, rel=5e-2)
        if family != "through transformers":  # whose own code copies tables in every pass
            assert sum(device.syncs.values()) == BATCHES, device.syncs
        held = device.allocated
        loaded = None
        tensors.clear()
        half = load_checkpoint(path, device="sim", linear_dtype=LOWER)
        assert evaluate(half.model, TOKENS, **settings).loss == lower.loss
        if half.plan is not None:
            assert device.allocated < held
        del half


@pytest.mark.parametrize("family", ["nanogpt", "gemma3", "nanochat, smeared", "litgpt, phi"])
def test_linear_weights_loaded_in_bfloat16_measure_what_casting_them_would(tmp_path, family):
    """On the CPU, bit for bit; the head, norms, biases and embeddings stay float32."""
    path = SAVERS[family](tmp_path)
    whole, half = load_checkpoint(path), load_checkpoint(path, linear_dtype=LOWER)
    lowered = {id(layer.weight) for layer in linear_layers(half.model)}
    assert lowered and {p.dtype for p in half.model.parameters() if id(p) in lowered} == {LOWER}
    assert {p.dtype for p in half.model.parameters() if id(p) not in lowered} == {torch.float32}
    head = half.model.head()[0]
    assert head.dtype == torch.float32 and half.content_digest == whole.content_digest
    settings = {"seq_len": WINDOW, "dtype": "bfloat16"}
    measured, expected = (evaluate(m.model, TOKENS, **settings) for m in (half, whole))
    assert measured.window_nats.tolist() == expected.window_nats.tolist()
    again = load_checkpoint(path, reuse=half, linear_dtype=LOWER)
    assert again.model is half.model
    full = load_checkpoint(path, reuse=again)
    assert full.model is not half.model and {p.dtype for p in full.model.parameters()} == {torch.float32}


def test_weights_are_loaded_lower_only_where_every_measurement_is_in_that_dtype():
    cpu, device = torch.device("cpu"), torch.device("cuda", 0)
    assert linear_dtype(["bfloat16", "bfloat16"], cpu) == linear_dtype(["auto", "bfloat16"], device) == LOWER
    assert linear_dtype(["float16"], cpu) == torch.float16
    for declared in (["auto"], ["bfloat16", "float32"], ["bfloat16", "float16"], ["bfloat16", None], [], ["no dtype"]):
        assert linear_dtype(declared, cpu) == torch.float32
    assert linear_dtype(["auto", "float32"], device) == torch.float32


def test_a_shared_linear_weight_stays_shared():
    from evalcore.loading.build import lower

    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.LayerNorm(4))
    model[1].weight = model[0].weight
    lower(model, LOWER)
    assert model[0].weight is model[1].weight and model[0].weight.dtype == LOWER
    assert model[0].bias.dtype == model[2].weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", ["dcp", "mean"])
def test_a_dcp_folder_and_a_mean_are_filled_on_the_device(tmp_path, form, dtype):
    paths = [make.save_nanogpt(tmp_path / f"{seed}.pt", seed=seed) for seed in (1, 2)]
    if form == "dcp":
        arguments = {"model_args": make.NANOGPT, "iter_num": 2000}
        dcp.save({"model": make.nanogpt_state(seed=1), **arguments}, checkpoint_id=tmp_path / "dcp", no_dist=True)

    def load(device, wanted=torch.float32):
        if form == "dcp":
            return load_checkpoint(tmp_path / "dcp", device=device, linear_dtype=wanted)
        members = [OpenedMember(path.name, open_checkpoint(path, OpenOptions()), 0.5) for path in paths]
        return load_mean(members, LoadOptions(device=device, linear_dtype=wanted))

    expected = evaluate(load("cpu").model, TOKENS, dtype="float32", seq_len=WINDOW).loss
    with simulated() as device:
        loaded = load("sim", getattr(torch, dtype))
        assert all(isinstance(p.data, DeviceTensor) for p in loaded.model.parameters())
        device.syncs.clear()
        result = evaluate(loaded.model, TOKENS, dtype=dtype, seq_len=WINDOW, batch_size=BATCH)
        assert result.loss == pytest.approx(expected, rel=1e-6 if dtype == "float32" else 5e-2)
        assert sum(device.syncs.values()) == BATCHES
        del loaded


@pytest.fixture(scope="module")
def task_inputs(tmp_path_factory):
    from tests.support.tasks import WORDS
    from tests.support.tokenizers import save_ranks

    folder = tmp_path_factory.mktemp("tasks")
    save_ranks(folder / "words.tiktoken", " ".join(WORDS * 3) + " Question: Answer:", 100)
    paths = {"branches": make.save_nanogpt(folder / "a.pt", block_size=96, vocab_size=400)}
    model = relatives.model_of("mistral", sliding_window=9, vocab_size=400)
    model.save_pretrained(folder / "hf")
    return paths | {"rotary branches with a window": folder / "hf"}, build_tokenizer(str(folder / "words.tiktoken"))


@pytest.mark.parametrize("model", ["branches", "rotary branches with a window"])
@pytest.mark.parametrize("task", ["hellaswag", "lambada", "winogrande"])
def test_tasks_give_the_scores_of_the_cpu_and_the_host_waits_once_a_batch(task_inputs, model, task, monkeypatch):
    batches, honest = 0, scoring_run.ScoringRun._score

    def counted(run, part):
        nonlocal batches
        batches += 1
        return honest(run, part)

    paths, tokenizer = task_inputs
    rows, settings = rows_of(task, 10), {"task": task, "batch_size": 8, "dtype": "float32"}
    expected = evaluate_task(load_checkpoint(paths[model]).model, rows, tokenizer, **settings)
    with simulated() as device:
        loaded = load_checkpoint(paths[model], device="sim")
        evaluate_task(loaded.model, rows[:1], tokenizer, **settings)  # the first copies rotary frequencies
        device.syncs.clear()
        monkeypatch.setattr(scoring_run.ScoringRun, "_score", counted)
        result = evaluate_task(loaded.model, rows, tokenizer, **settings)
        waits = sum(device.syncs.values())
        del loaded
    assert (result.accuracy, result.accuracy_norm) == (expected.accuracy, expected.accuracy_norm)
    assert list(result.item_scores.choice_nats) == pytest.approx(list(expected.item_scores.choice_nats), rel=1e-5)
    assert waits == batches, device.syncs
