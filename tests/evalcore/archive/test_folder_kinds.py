"""Which checkpoint a folder is, by the names in it, as each trainer leaves it and while it is being written."""

from __future__ import annotations

import pytest

from evalcore.archive import recognise

TRAINER = ["training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"]

#: folder, its entries -> kind, whether it is complete by its names, the file that holds the model
FOLDERS: list[tuple[str, list[str], str | None, bool, str]] = [
    ("checkpoint-5", ["config.json", "model.safetensors"], "hf", True, ""),
    ("checkpoint-5", ["config.json", "model.safetensors", *TRAINER], "hf", False, ""),
    ("checkpoint-5", ["config.json", "model.safetensors", *TRAINER, "trainer_state.json"], "hf", True, ""),
    ("checkpoint-5", ["config.json", "generation_config.json"], None, False, ""),
    ("final", ["config.json", "pytorch_model.bin"], "hf", True, ""),
    ("final", ["config.json", "model.safetensors", "training_args.bin"], "hf", True, ""),  # trainer.save_model()
    ("step_5", ["config.json", "model.safetensors", "optimizer.pt", "scheduler.pt"], "hf", True, ""),  # own loop
    ("checkpoint-5", ["config.json", "model.safetensors", "rng_state_0.pth"], "hf", False, ""),
    ("checkpoint_0", ["model.safetensors", "optimizer.bin", "scheduler.bin"], "hf", False, ""),  # Accelerate
    ("checkpoint_0", ["model.safetensors", "optimizer.bin", "sampler.bin", "random_states_0.pkl"], "hf", True, ""),
    ("x", ["config.json", "model-00001-of-00002.safetensors"], "hf", False, ""),
    ("x", ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], "hf", True, ""),
    ("step-5", [".metadata", "__0_0.distcp", "__1_0.distcp"], "dcp", True, ""),
    ("step-5", ["__0_0.distcp"], "dcp", False, ""),
    ("0000000005", [".metadata", "__0_0.distcp", "params.json"], "dcp", False, ""),
    ("0000000005", [".metadata", "__0_0.distcp", "params.json", "train_state_00000.json"], "dcp", True, ""),
    ("step-00000005", ["lit_model.pth", "hyperparameters.yaml"], "litgpt", False, "lit_model.pth"),
    ("step-00000005", ["lit_model.pth", "model_config.yaml"], "litgpt", True, "lit_model.pth"),
    ("global_step5", ["mp_rank_00_model_states.pt", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"],
     "deepspeed", True, "mp_rank_00_model_states.pt"),
    ("global_step5", ["mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"], "deepspeed", True, ""),
    ("global_step5", ["zero_pp_rank_0_mp_rank_00_model_states.pt"], "refused", True, ""),
    ("iter_0000005", ["mp_rank_00", "mp_rank_01"], "refused", True, ""),
    ("iter_0000005", ["common.pt", "metadata.json", "decoder.layers.mlp.linear_fc1.weight"], "refused", True, ""),
    ("checkpoint-5", ["adapter_config.json", "adapter_model.safetensors"], "refused", True, ""),
    ("step5-unsharded", ["model.pt", "optim.pt", "train.pt", "config.yaml"], "olmo", True, "model.pt"),
    ("consolidated", ["consolidated.pth", "params.json"], None, False, ""),
    ("step_5", ["consolidated.pth", "params.json"], "full", True, "consolidated.pth"),
    ("epoch_2", ["model.pt", "optimizer.pt"], "full", True, "model.pt"),
    ("step_5", ["a.pt", "b.pt"], None, False, ""),
    ("exp1", ["ckpt.pt"], None, False, ""),  # a training of its own
    ("wandb", ["debug.log", "config.yaml"], None, False, ""),
]  # fmt: skip


@pytest.mark.parametrize(("folder", "names", "kind", "complete", "main"), FOLDERS)
def test_a_folder_is_recognised_by_the_names_in_it(folder, names, kind, complete, main):
    found = recognise(folder, names, lambda inside: [])
    assert (found.name if found else None) == kind
    if found is not None:
        assert (found.missing is None, found.main) == (complete, main)
        assert set(found.members) <= set(names) and not set(TRAINER) & set(found.members)


def test_the_weights_of_an_olmo_core_step_are_one_level_below():
    inside = {"model_and_optim": [".metadata", "__0_0.distcp"]}
    found = recognise("step5", ["config.json", "model_and_optim", "train"], inside.__getitem__)
    assert found is not None and found.weights == ("model_and_optim/__0_0.distcp",)
    assert "model_and_optim/.metadata" in found.members and found.missing is None
    unfinished = recognise("step5", ["model_and_optim"], lambda _: ["__0_0.distcp"])
    assert unfinished is not None and "model_and_optim/.metadata, which is written last" in str(unfinished.missing)


def test_a_folder_that_a_user_gives_needs_no_step_in_its_name():
    names = ["consolidated.pth", "params.json"]
    assert recognise("anything", names, lambda _: []) is None
    chosen = recognise("anything", names, lambda _: [], chosen=True)
    assert chosen is not None and chosen.main == "consolidated.pth"
    assert recognise("out", ["ckpt.pt", "other.pt"], lambda _: [], chosen=True) is None
