"""The step that a name tells, for names as real trainers write them; and which of name and payload stands."""

from __future__ import annotations

import pytest

from watcher.domain.step import STEP_MAX, Step, choose_step, step_from_name

#: nanoGPT, build-nanogpt, modded-nanogpt, nanochat, litgpt, TinyLlama, Lightning, Hugging Face, torchtune, torchtitan,
#: lingua, OLMo, Megatron, DeepSpeed, Composer, fairseq, and what people name by hand
NAMES: dict[str, int | None] = {
    "step_1e5.pt": 100_000, "step=1e3.ckpt": 1000, "ckpt_1e5.pt": None, "step_-1.pt": None, "max_iter_1000.pt": None,
    "warmup_steps_100_model_500.pt": 500, "ckpt_50%.pt": None, "ckpt-000010-of-000100.pt": None, "ckpt_10pct.pt": None,
    "step=100-loss=2.31.ckpt": 100, "resume_from_5000_step_100.pt": 100, 
    "ckpt_19560_val3.29.pt": 19_560, "gpt_L12_H12_D768_2000.pt": 2000, "10.5B.pt": None, "d12_001000.pt": 1000,
    # labelled
    "ckpt_iter_002000.pt": 2000, "epoch=3-step=1200.ckpt": 1200, "epoch=3-step=1200-v1.ckpt": 1200,
    "model_step_5000_loss_3.21.pt": 5000, "state_step005100.pt": 5100, "iter-160000-ckpt.pth": 160000,
    "step-00012000.pt": 12000, "gpt2-124M-step1000.pt": 1000, "lr3e-4_step2000.pt": 2000, "step2000_lr3e-4.pt": 2000,
    "rank0_step300.pt": 300, "step_300_rank_7.pt": 300, "e12_s34000.pt": 34000, "s3000.pt": 3000,
    "ep0-ba2000-rank0.pt": 2000, "ep1-ba100-rank0.pt": 100, "step=500-val_loss=3.1415.ckpt": 500, "it1000.pt": 1000,
    "iteration=50.ckpt": 50, "globalstep900.pt": 900, "train_step_80.pt": 80, "update_3000.pt": 3000, "Step_77.PT": 77,
    "epoch-3-iter-900.pt": 900, "loss_2.98_step_400.pt": 400, "step_0.pt": 0, "steps_3000.pt": 3000,
    "stage1_step500.pt": 500, "20240501-step100.pt": 100, "model_2024_05_01_step_77.pt": 77,
    "llama-2-7b-step-500.pt": 500, "gpt2-124M-step=00010.pt": 10, "runs/2024-05-01/step_5.pt": 5,
    "h100_run_step40.pt": 40, "pretrain_step_600.pt": 600, "fusion_iter_70.pt": 70,
    # multiples, and labels after the number
    "step_10k.pt": 10000, "step_1.5k.pt": 1500, "step_2M.pt": 2000000, "step_10_000.pt": 10000, "ckpt_5k.pt": 5000,
    "10k-steps.pt": 10000, "model_final_10000_steps.pt": 10000, "5000iters.pt": 5000,
    # after a word for checkpoints
    "model_00005000.pt": 5000, "ckpt_5000.pt": 5000, "checkpoint-5000-epoch-3.pt": 5000, "ckpt_124m_1000.pt": 1000,
    "ckpt-0001000-of-0010000.pt": 1000, "model.1000.pt": 1000, "weights.00010.pt": 10, "checkpoint_0012.pt": 12,
    "checkpoint_3_50000.pt": 50000, "model_100M_5000.pt": 5000, "ckpt_v2_3000.pt": 3000, "v1.0/ckpt_300.pt": 300,
    "ckpt_1000 (2).pt": 1000, "ckpt_1000-copy2.pt": 1000, "seed_1337_ckpt_400.pt": 400, "ckpt_400_seed_1337.pt": 400,
    "phase2_ckpt_1000.pt": 1000, "exp_12_model_3000.pt": 3000, "ctx1024_ckpt_20.pt": 20,
    # the last number that nothing else explains
    "mini_gpt_000020.pt": 20, "minigpt_000020.pt": 20, "qwen2.5-0.5b-1000.pt": 1000, "gpt2_8gpus_3000.pt": 3000,
    "bs64_lr1e-3_4000.pt": 4000, "vocab50257_5000.pt": 5000, "valloss2.98_400.pt": 400, "ema_0.9999_010000.pt": 10000,
    "G_10000.pth": 10000, "1000.pt": 1000, "00020000.pt": 20000, "nanogpt_5.pt": 5,
    "model_1_000_000.pt": 1000000, "ckpt_10_000.pt": 10000, "ckpt_2024-05-01_3000.pt": 3000,
    "ckpt_step=1,000.pt": 1000, "ep0-ba100/rank0.pt": 100, "05-11-2024_step_7.pt": 7, "ckpt_05-11-2024.pt": None,
    "Nov05_10-30-00_host.pt": None, "slurm-998877.pt": None, "ckpt_64000_samples.pt": None, "bpe_4096.model.pt": None,
    "averaged_5_checkpoints.pt": None, "release-2.pt": None,
    # folders
    "step-00000040/lit_model.pth": 40, "checkpoint-500/pytorch_model.bin": 500, "step1000-unsharded/model.pt": 1000,
    "iter_0005000/mp_rank_00/model_optim_rng.pt": 5000, "global_step30/mp_rank_00_model_states.pt": 30,
    "0000001000/consolidated/consolidated.pth": 1000, "step_2000/consolidated.00.pth": 2000,
    "checkpoint-500/model-00001-of-00002.safetensors": 500, "gpt2_100000steps/ckpt_500.pt": 500,
    # an epoch, where there is nothing else
    "model_epoch_12.pt": 12, "epoch_3.pt": 3, "ep3.pt": 3,
    # planned totals
    "max_steps_100000_ckpt_500.pt": 500, "warmup_steps_100_step_300.pt": 300,
    # none: sizes, losses, versions, dates, seeds, shards, settings, names of models
    "model_124M.pt": None, "gpt2-350M-final.pt": None, "tokens_100B.pt": None, "model_12L_768d.pt": None,
    "model_1b_tokens_20B.pt": None, "llama-2-7b.pt": None, "d768.pt": None, "model_12_layers.pt": None,
    "best_loss_3.4512.pt": None, "best-val3.21.pt": None, "best_model_0.9132.pt": None, "acc_91.pt": None,
    "model_v2.pt": None, "last-v3.ckpt": None, "run_2024-05-01.pt": None, "20240501_120000.pt": None,
    "ckpt_1700000000.pt": None, "seed42.pt": None, "exp12.pt": None, "rng_42/ckpt.pt": None, "snapshot-1e4.pt": None,
    "checkpoint_1_of_5.pt": None, "model-00001-of-00002.pt": None, "consolidated.00.pth": None, "gpt4.pt": None,
    "model_bf16.pt": None, "model_a1b2c3d4.pt": None, "final.pt": None, "latest.pt": None, "latest-rank0.pt": None,
    "step.pt": None, "ckpt.pt": None, "ckpt_best.pt": None,
    # none: where a training was resumed from, hashes, names of models and data sets
    "resume_from_3000.pt": None, "init_from_500.pt": None, "deadbeef12345678.pt": None, "ckpt_3f9a2c7.pt": None,
    "550e8400-e29b-41d4-a716-446655440000.pt": None, "sample-mnist-02.pt": None, "gpt2hf.pt": None, "e0001000.pt": 1000,
    "resume_from_3000_step_4000.pt": 4000, "resume_from_3000/step_10.pt": 10, "best-gpt2.pt": None, "t5-small.pt": None,
    # a size between the word for checkpoints and its number
    "ckpt-350M-20k.pt": 20000, "ckpt_1.5k.pt": 1500, "model_7b_3000.pt": 3000, "model-1.3B-5k.pt": 5000,
    "ckpt_0.5k.pt": 500, "checkpoint-7b.pt": None,
}  # fmt: skip


@pytest.mark.parametrize(("path", "step"), NAMES.items())
def test_a_name_tells_the_step_and_nothing_else_for_it(path: str, step: int | None) -> None:
    assert step_from_name(path).value == step


def test_the_source_says_how_sure_a_name_is() -> None:
    sources = {name: step_from_name(name).source for name in ("step_5.pt", "ckpt_5.pt", "mine_5.pt", "epoch_5.pt")}
    assert list(sources.values()) == ["name", "name", "name:last number", "name:epoch"]
    assert step_from_name("ckpt.pt") == Step(None, "")


def test_any_bytes_as_a_name_give_a_step_in_bounds_or_none() -> None:
    for name in ("", "/", "~", "9" * 5000, "step_" + "9" * 5000, "1." * 2000, "k" * 10_000, "step_" * 5000, "\udcff_5"):
        value = step_from_name(f"{name}.pt").value
        assert value is None or 0 <= value <= STEP_MAX


@pytest.mark.parametrize("key", ["steps", "num_steps", "iter"])
def test_a_planned_total_in_the_payload_gives_way_to_the_names_number_and_says_why(key: str) -> None:
    step = choose_step(Step(100_000, f"payload:{key}"), Step(1000, "name"))
    assert step.value == 1000
    assert step.source == f"name (payload:{key} is 100000, taken as the planned total)"


def test_the_payloads_step_stands_where_the_name_is_no_better() -> None:
    assert choose_step(Step(7, "payload:step"), Step(9, "name")) == Step(7, "payload:step")
    assert choose_step(Step(7, "payload:steps"), Step(None, "")) == Step(7, "payload:steps")
    assert choose_step(Step(7, "payload:steps"), Step(3, "name:epoch")).value == 7
    assert choose_step(Step(7, "payload:iter"), Step(3, "name:last number")).value == 7
    assert choose_step(Step(7, "payload:steps"), Step(7, "name")).source == "payload:steps"
    assert choose_step(Step(None, ""), Step(9, "name")).value == 9


def test_a_last_number_that_is_the_models_width_is_no_step() -> None:
    assert choose_step(Step(None, ""), step_from_name("pretrain_768.pth"), 768) == Step(None, "")
    assert choose_step(Step(None, ""), step_from_name("pretrain_5000.pth"), 768) == Step(5000, "name:last number")
    assert choose_step(Step(None, ""), step_from_name("ckpt_768.pth"), 768) == Step(768, "name")
    assert choose_step(Step(12, "payload:step"), step_from_name("pretrain_768.pth"), 768) == Step(12, "payload:step")
