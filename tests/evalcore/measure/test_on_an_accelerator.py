"""On an accelerator, simulated: the same values as on the CPU, nothing on the wrong device, no needless waiting."""

import numpy as np
import pytest
import torch

import evalcore
from bench import gpu_tasks
from evalcore.data.stream import TokenStream
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.measure import memory
from evalcore.measure.accelerator import accelerator_type, pick_device
from evalcore.measure.agreement import OutOfMemory
from evalcore.measure.evaluate import evaluate
from evalcore.measure.process_group import start_process_group
from evalcore.models.decoder import Decoder, DecoderShape
from tests.support import checkpoints as make
from tests.support.models import LogitsModel, SmallModel, tokens_for
from tests.support.simulated_accelerator import DeviceTensor, simulated

TOKENS = tokens_for(2000)


def test_outside_the_simulation_there_is_no_accelerator():
    assert accelerator_type() in (None, "cuda", "xpu", "mps")


@pytest.mark.parametrize("stride", [None, 40])
def test_the_loss_is_the_one_of_the_cpu(stride):
    expected = evaluate(SmallModel(), TOKENS, seq_len=64, stride=stride, dtype="float32")
    with simulated():
        result = evaluate(SmallModel().to("sim"), TOKENS, seq_len=64, stride=stride, dtype="float32", batch_size=4)
    assert result.loss == pytest.approx(expected.loss, rel=1e-6) and result.tokens == expected.tokens
    assert result.device == "sim" and result.window_nats.tolist() == pytest.approx(list(expected.window_nats), rel=1e-6)


@pytest.mark.parametrize("answer", ["tensor", "pair", "dict", "last only"])
def test_a_foreign_model_gets_tokens_and_targets_on_its_device(answer):
    expected = evaluate(LogitsModel(answer), TOKENS, seq_len=64)
    with simulated():
        result = evaluate(LogitsModel(answer).to("sim"), TOKENS, seq_len=64, dtype="float32")
    assert result.loss == pytest.approx(expected.loss, rel=1e-6)


def test_bfloat16_is_what_an_accelerator_computes_in_and_the_sums_stay_exact():
    expected = evaluate(SmallModel(), TOKENS, seq_len=64).loss
    with simulated():
        result = evaluate(SmallModel().to("sim"), TOKENS, seq_len=64)
    assert result.dtype == "bfloat16" and result.loss == pytest.approx(expected, abs=2e-2)


def test_the_host_waits_once_a_batch_and_not_once_a_window():
    def waits_with(batch_size):
        with simulated() as device:
            model = SmallModel().to("sim")
            device.syncs.clear()
            evaluate(model, TOKENS, seq_len=64, dtype="float32", batch_size=batch_size)
            del model
        return sum(device.syncs.values())

    windows, batches = 32, 5  # 31 of 64 targets in batches of 8, and a short one
    assert (waits_with(1), waits_with(8)) == (windows, batches)


def test_a_batch_is_read_while_the_device_still_computes_the_one_before(monkeypatch):
    """A blocking copy would have waited for batch i - 1 when batch i is read."""
    waits = []
    with simulated() as device:
        model = SmallModel().to("sim")
        read = TokenStream.read

        def counting(stream, start, stop):
            if stop - start == 65:  # a window and the target of its last token
                waits.append(device.syncs["event"])
            return read(stream, start, stop)

        monkeypatch.setattr(TokenStream, "read", counting)
        device.syncs.clear()
        result = evaluate(model, TOKENS, seq_len=64, dtype="float32", batch_size=8)
        waits_in_all = sum(device.syncs.values())
        del model
    assert waits[::8] == [0, 0, 1, 2] and waits_in_all == 5
    assert result.loss == pytest.approx(evaluate(SmallModel(), TOKENS, seq_len=64).loss, rel=1e-6)


def test_the_items_of_a_task_have_the_scores_of_the_cpu_and_their_batch_is_found_by_memory(monkeypatch):
    model, task = Decoder(DecoderShape(300, 256, 1, 2, 16, 32)).eval().requires_grad_(False), gpu_tasks.made_up(40)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    expected = evalcore.evaluate_task(model, task, dtype="float32")
    monkeypatch.setattr(memory, "PASS_TOKENS", 256)  # fewer than a batch has: memory is asked
    with simulated() as device:
        on_device = model.to("sim")
        result = evalcore.evaluate_task(on_device, task, dtype="float32")
        used = device.peak
        del on_device, model, parameter
    assert used and result.device == "sim" and result.item_scores.chosen == expected.item_scores.chosen
    assert list(result.item_scores.choice_nats) == pytest.approx(list(expected.item_scores.choice_nats), rel=1e-5)


def test_where_memory_is_short_the_batch_is_halved_and_the_loss_stays():
    with simulated() as roomy:
        model = SmallModel().to("sim")
        held = roomy.allocated
        expected = evaluate(model, TOKENS, seq_len=64, dtype="float32", batch_size=16)
        peak = roomy.peak
        del model
    with simulated(capacity=held + (peak - held) // 3) as tight:
        model = SmallModel().to("sim")
        result = evaluate(model, TOKENS, seq_len=64, dtype="float32", batch_size=16)
        fitted = evaluate(model, TOKENS, seq_len=64, dtype="float32")
        del model
    assert tight.out_of_memory and result.batch_size < 16
    assert result.loss == pytest.approx(expected.loss, rel=1e-6) == fitted.loss
    assert result.peak_memory_bytes <= tight.capacity
    with simulated(capacity=held + 4000), pytest.raises(OutOfMemory, match="one window of 64 tokens"):
        model = SmallModel().to("sim")
        evaluate(model, TOKENS, seq_len=64, dtype="float32")


def test_the_batch_is_found_from_the_memory_that_is_free():
    tokens = tokens_for(64 * 600 + 1)
    with simulated() as roomy:
        model = SmallModel().to("sim")
        held = roomy.allocated
        whole = evaluate(model, tokens, seq_len=64, dtype="float32")
        peak = roomy.peak - held
        del model
    with simulated(capacity=held + peak // 2) as tight:
        model = SmallModel().to("sim")
        result = evaluate(model, tokens, seq_len=64, dtype="float32")
        del model
    assert not tight.out_of_memory, "found by measuring, not by running out"
    assert 1 <= result.batch_size < whole.batch_size and result.loss == pytest.approx(whole.loss, rel=1e-6)


def hf_folder(folder, kind):
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 96, "num_hidden_layers": 2, "max_position_embeddings": 32}
    if kind == "gpt2":
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=96, n_positions=32, n_embd=32, n_layer=2, n_head=4)
        )
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**small, **sizes))
    model.save_pretrained(folder)
    return folder


SAVERS = {
    "rosellm": lambda folder: make.save_rosellm(folder / "a.pt"),
    "nanogpt": lambda folder: make.save_nanogpt(folder / "a.pt"),
    "build-nanogpt": lambda folder: make.save_build_nanogpt(folder / "a.pt"),
    "hf gpt2": lambda folder: hf_folder(folder / "hf", "gpt2"),
    "hf llama": lambda folder: hf_folder(folder / "hf", "llama"),
}


@pytest.mark.parametrize("family", SAVERS)
def test_every_family_is_loaded_and_evaluated_on_the_device(tmp_path, family):
    path = SAVERS[family](tmp_path)
    tokens = np.arange(200, dtype=np.uint16) % 64
    expected = evaluate(load_checkpoint(path).model, tokens, seq_len=16, dtype="float32").loss
    with simulated() as device:
        loaded = load_checkpoint(path, device="sim")
        assert all(type(p.data) is DeviceTensor or isinstance(p, DeviceTensor) for p in loaded.model.parameters())
        result = evaluate(loaded.model, tokens, seq_len=16, dtype="float32", batch_size=4)
        assert result.loss == pytest.approx(expected, rel=1e-6) and result.device == "sim"
        assert sum(device.syncs.values()) <= 5
        lower = evaluate(loaded.model, tokens, seq_len=16)
        assert lower.dtype == "bfloat16" and lower.loss == pytest.approx(expected, rel=5e-2)
        del loaded


def test_a_tensor_left_on_the_host_is_an_error_as_on_a_gpu():
    class Forgetful(SmallModel):
        def hidden(self, tokens):
            return super().hidden(tokens) + torch.zeros(24)

    with simulated(), pytest.raises(RuntimeError, match="same device, but found cpu, sim:0"):
        evaluate(Forgetful().to("sim"), TOKENS, seq_len=64, dtype="float32")


def test_a_copy_that_nobody_waits_for_holds_garbage_and_a_pinned_source_may_not_change():
    with simulated() as device:
        x = torch.ones(3).to("sim")
        late = x.to("cpu", non_blocking=True)
        assert late.isnan().all()
        torch.get_device_module("sim").synchronize()
        assert late.tolist() == [1.0, 1.0, 1.0]
        source = torch.ones(3).pin_memory()
        source.to("sim", non_blocking=True)
        source += 1
        with pytest.raises(AssertionError, match="pinned memory was changed"):
            device.sync("test")


def test_the_device_is_picked_by_rank_and_what_is_not_there_is_said(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with simulated():
        assert str(pick_device("auto", 1)) == "sim:1" and str(pick_device("sim:0", 1)) == "sim:0"
        assert pick_device("cpu", 0).type == "cpu" and start_process_group().device.type == "sim"
        with pytest.raises(RuntimeError, match="rank 2 has no device: torch sees 2 of sim"):
            pick_device("auto", 2)
        with pytest.raises(RuntimeError, match="'sim:5' was asked for, but torch sees 2"):
            pick_device("sim:5", 0)
        with pytest.raises(RuntimeError, match="torch sees only sim; use --device sim"):
            pick_device("xpu", 0)
    if accelerator_type() is None:
        with pytest.raises(RuntimeError, match="torch sees no accelerator; use --device cpu"):
            pick_device("cuda", 0)


def test_a_trainer_on_the_device_calls_the_same_function():
    with simulated():
        model = SmallModel().to("sim").train()
        result = evalcore.evaluate(model, torch.from_numpy(TOKENS.astype(np.int64)), dtype="float32")
        assert model.training and result.device == "sim"
        del model
