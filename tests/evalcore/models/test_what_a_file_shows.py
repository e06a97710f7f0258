"""What a file shows of its model beside names, shapes and configuration: modules, masks, tables, a shared head."""

import contextlib
import re
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from evalcore.archive import summarise
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make
from tests.support.references import NANO, plain_gpt, tanh_gelu

TOKENS = torch.randint(0, 64, (2, 32), generator=torch.Generator().manual_seed(0))
STATE = {name: t * (6 if t.dim() > 1 else 1) for name, t in make.nanogpt_state().items()}


def refusal(path, **settings):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, spec=ModelSpec(**settings))
    assert caught.value.hint
    return caught.value


def logits_of(path, **settings):
    with load_checkpoint(path, spec=ModelSpec(**settings)) as loaded, torch.inference_mode():
        return loaded.model(TOKENS[:, : loaded.context_length])


def assert_near(logits, expected):
    assert (logits - expected).abs().max() < 2e-5 * max(1.0, float(expected.abs().max()))


class Part(nn.Module):
    """A module of a trainer's script, with the fields that its forward pass would use."""

    def __init__(self, **fields):
        super().__init__()
        for name, value in fields.items():
            setattr(self, name, value)


class RMSNorm(nn.RMSNorm):
    pass


class RotaryPositions(nn.Module):
    pass


def whole_model(activation, heads=2, norm=nn.LayerNorm, more=None):
    """nanoGPT's tree of modules around STATE, as `torch.save(model)` has it."""
    width = 16

    def filled(module, name):
        for part, value in module.named_parameters(recurse=False):
            value.data = STATE[f"{name}.{part}"].clone()
        return module

    def block(i):
        name = f"transformer.h.{i}"
        attention = Part(
            c_attn=filled(nn.Linear(width, 3 * width), f"{name}.attn.c_attn"),
            c_proj=filled(nn.Linear(width, width), f"{name}.attn.c_proj"), n_head=heads, **(more or {}),
        )  # fmt: skip
        up, down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        mlp = Part(c_fc=filled(up, f"{name}.mlp.c_fc"), act=activation, c_proj=filled(down, f"{name}.mlp.c_proj"))
        norms = {key: norm_of(f"{name}.{key}") for key in ("ln_1", "ln_2")}
        return Part(**norms, attn=attention, mlp=mlp)

    def norm_of(name):
        made = norm(width, eps=1e-5)
        if isinstance(made, nn.RMSNorm):
            made.bias = nn.Parameter(torch.zeros(width))
        return filled(made, name)

    tokens, positions = nn.Embedding(64, width), nn.Embedding(32, width)
    transformer = nn.ModuleDict({
        "wte": filled(tokens, "transformer.wte"), "wpe": filled(positions, "transformer.wpe"),
        "h": nn.ModuleList([block(0), block(1)]), "ln_f": norm_of("transformer.ln_f"),
    })  # fmt: skip
    head = nn.Linear(width, 64, bias=False)
    head.weight = tokens.weight
    return Part(transformer=transformer, lm_head=head, config=dict(make.NANOGPT))


@contextlib.contextmanager
def in_a_script(*classes):
    """The classes in a module of the trainer's that is gone afterwards."""
    script = sys.modules["train_script"] = types.ModuleType("train_script")
    before = [cls.__module__ for cls in classes]
    for cls in classes:
        cls.__module__ = "train_script"
        setattr(script, cls.__name__, cls)
    try:
        yield
    finally:
        for cls, module in zip(classes, before, strict=True):
            cls.__module__ = module
        del sys.modules["train_script"]


def save_whole(path, model):
    with in_a_script(Part, RMSNorm, RotaryPositions):
        torch.save(model, path)
    return path


@pytest.mark.parametrize(
    ("activation", "function", "heads"),
    [(nn.GELU(), F.gelu, 2), (nn.GELU(approximate="tanh"), tanh_gelu, 2), (nn.ReLU(), F.relu, 2),
     (F.silu, F.silu, 2), (nn.GELU(), F.gelu, 4)],
)  # fmt: skip
def test_a_model_pickled_whole_is_computed_as_its_modules_say(tmp_path, activation, function, heads):
    path = save_whole(tmp_path / "model.pt", whole_model(activation, heads))
    assert_near(logits_of(path), plain_gpt(STATE, heads, function, TOKENS, NANO))
    assert summarise(path).config["n_head"] == heads  # what `inspect` shows, whatever the config object says


@pytest.mark.parametrize(
    ("model", "named"),
    [(lambda: whole_model(nn.GELU(), norm=RMSNorm), "RMSNorm"), (lambda: whole_model(nn.Mish()), "mish"),
     (lambda: whole_model(nn.GELU(), more={"rotary": RotaryPositions()}), "RotaryPositions")],
)  # fmt: skip
def test_a_model_pickled_whole_with_parts_of_another_model_is_refused_by_their_name(tmp_path, model, named):
    path = save_whole(tmp_path / "model.pt", model())
    assert named in refusal(path).reason
    if named == "RotaryPositions":
        expected = plain_gpt(STATE, 2, F.gelu, TOKENS, NANO)
        assert_near(logits_of(path, config={"block_modules": False}), expected)


ONES = torch.ones(32, 32)


@pytest.mark.parametrize("mask", [ONES.tril(), ONES.tril().bool(), ONES.triu(1).bool(), (ONES * -1e9).triu(1)])
def test_a_causal_mask_in_the_file_is_no_obstacle_however_it_is_written(tmp_path, mask):
    path = make.save_bare(tmp_path / "m.pt", masked(mask))
    assert_near(logits_of(path, config=GIVEN), plain_gpt(STATE, 2, F.gelu, TOKENS, NANO))


def test_masks_that_share_one_storage_are_read_once(tmp_path):
    mask, sizes = ONES.tril().reshape(1, 1, 32, 32), []
    for shared in (True, False):
        masks = {f"transformer.h.{i}.attn.bias": mask if shared else mask.clone() for i in range(2)}
        with load_checkpoint(make.save_bare(tmp_path / "m.pt", STATE | masks), spec=ModelSpec(config=GIVEN)) as loaded:
            sizes.append(loaded.read_bytes)
    assert sizes[1] - sizes[0] == 32 * 32 * 4


GIVEN = {**make.NANOGPT, "family": "nanogpt"}


def masked(mask):
    return {**STATE, **{f"transformer.h.{i}.attn.bias": mask.reshape(1, 1, 32, 32).clone() for i in range(2)}}


@pytest.mark.parametrize(
    ("mask", "what"), [(ONES.tril() * ONES.triu(-7), "last token see 8 of 32"), (ONES, "see later ones"),
                       (~(ONES.tril() * ONES.triu(-3)).bool(), "last token see 4 of 32")],
)  # fmt: skip
def test_a_mask_of_other_attention_in_the_file_is_refused(tmp_path, mask, what):
    error = refusal(make.save_bare(tmp_path / "m.pt", masked(mask)), config=GIVEN)
    assert what in error.reason and "attn.bias" in error.reason


def test_rotary_tables_in_a_file_of_a_model_without_them_are_refused(tmp_path):
    extra = {"transformer.h.0.attn.rotary_emb.inv_freq": torch.ones(4)}
    assert "rotary_emb.inv_freq" in refusal(make.save_bare(tmp_path / "m.pt", STATE | extra), config=GIVEN).reason
    table = {"freqs_cos": torch.ones(32, 4)}
    assert "freqs_cos" in refusal(make.save_bare(tmp_path / "m.pt", STATE | table), config=GIVEN).reason


LLAMA = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2, "intermediate_size": 32, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
}  # fmt: skip


def llama_state():
    drawn = torch.Generator().manual_seed(2)
    sizes = {
        "embed_tokens": (64, 16),
        "layers.0.input_layernorm": (16,),
        "layers.0.post_attention_layernorm": (16,),
        "norm": (16,),
        **{f"layers.0.self_attn.{n}_proj": (16, 16) for n in "qkvo"},
        "layers.0.mlp.gate_proj": (32, 16),
        "layers.0.mlp.up_proj": (32, 16),
        "layers.0.mlp.down_proj": (16, 32),
    }
    state = {f"model.{name}.weight": torch.randn(size, generator=drawn) for name, size in sizes.items()}
    return state | {"lm_head.weight": torch.randn(64, 16, generator=drawn)}


@pytest.mark.parametrize(("base", "dtype"), [(1e4, torch.float32), (1e4, torch.bfloat16), (1e6, torch.float32)])
def test_inverse_frequencies_of_another_base_than_the_configuration_gives_are_refused(tmp_path, base, dtype):
    frequencies = (base ** -(torch.arange(0, 8, 2) / 8)).to(dtype)
    path = tmp_path / "model.safetensors"
    save_file(llama_state() | {"model.layers.0.self_attn.rotary_emb.inv_freq": frequencies}, path)
    if base == 1e4:
        assert logits_of(path, config=LLAMA).isfinite().all()
        return
    assert "rope_theta = 1e+06" in refusal(path, config=LLAMA).reason
    right = logits_of(path, config={**LLAMA, "rope_theta": 1e6})
    assert (
        right - logits_of(path.with_name(save_plain(tmp_path)), config={**LLAMA, "rope_theta": 1e6})
    ).abs().max() == 0


def test_inverse_frequencies_of_a_large_base_in_half_precision_are_those_of_the_configuration(tmp_path):
    state, width = llama_state(), 128  # the lowest frequencies are one or two steps of float16 above 0
    frequencies = (1e7 ** -(torch.arange(0, width, 2) / width)).half()
    state |= {f"model.layers.0.self_attn.{n}_proj.weight": torch.ones(width, 16) for n in "qkv"}
    state["model.layers.0.self_attn.o_proj.weight"] = torch.ones(16, width)
    config = {**LLAMA, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": width}
    save_file(state | {"model.layers.0.self_attn.rotary_emb.inv_freq": frequencies}, tmp_path / "m.safetensors")
    assert logits_of(tmp_path / "m.safetensors", config={**config, "rope_theta": 1e7}).isfinite().all()
    assert "rotary positions" in refusal(tmp_path / "m.safetensors", config={**config, "rope_theta": 8e6}).reason


def save_plain(folder):
    save_file(llama_state(), folder / "plain.safetensors")
    return "plain.safetensors"


def test_a_head_that_is_the_embedding_is_no_nanochat(tmp_path):
    state = {"transformer.wte.weight": torch.randn(64, 16)}
    for name in ("attn.c_q", "attn.c_k", "attn.c_v", "attn.c_proj"):
        state[f"transformer.h.0.{name}.weight"] = torch.randn(16, 16)
    state |= {"transformer.h.0.mlp.c_fc.weight": torch.randn(64, 16)}
    state |= {
        "transformer.h.0.mlp.c_proj.weight": torch.randn(16, 64),
        "lm_head.weight": state["transformer.wte.weight"],
    }
    path = make.save_bare(tmp_path / "state.pt", state)
    assert "modded-nanogpt" in refusal(path).hint  # without a configuration
    given = {"n_layer": 1, "n_head": 2, "n_kv_head": 2, "n_embd": 16, "vocab_size": 64, "sequence_len": 32}
    assert "modded-nanogpt" in refusal(path, config=given).reason


def test_tinyllama_s_names_of_the_mlp_give_what_litgpt_s_give(tmp_path):
    config = {"name": "tiny", "block_size": 32, "vocab_size": 64, "padded_vocab_size": 64, "n_layer": 1, "n_head": 2,
              "n_embd": 16, "rotary_percentage": 1.0, "parallel_residual": False, "bias": False,
              "_norm_class": "FusedRMSNorm", "_mlp_class": "LLaMAMLP", "intermediate_size": 24}  # fmt: skip
    shapes = {
        "attn.attn": (48, 16),
        "attn.proj": (16, 16),
        "mlp.fc_1": (24, 16),
        "mlp.fc_2": (24, 16),
        "mlp.proj": (16, 24),
    }
    own = {f"transformer.h.0.{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    own |= {f"transformer.{name}.weight": torch.rand(16) for name in ("h.0.norm_1", "h.0.norm_2", "ln_f")}
    own |= {"transformer.wte.weight": torch.randn(64, 16), "lm_head.weight": torch.randn(64, 16)}
    names = {"mlp.fc_1": "mlp.swiglu.w1", "mlp.fc_2": "mlp.swiglu.w2", "mlp.proj": "mlp.swiglu.w3"}

    def theirs(name):
        return next((name.replace(a, b) for a, b in names.items() if a in name), name)

    ours = logits_of(make.save_bare(tmp_path / "a.pth", own), config=config)
    packed = make.save_bare(tmp_path / "iter-000100-ckpt.pth", {theirs(name): t for name, t in own.items()})
    assert torch.equal(logits_of(packed, config=config), ours)


@pytest.mark.parametrize("wrap", [
    lambda layer: torch.nn.utils.parametrizations.weight_norm(layer),
    lambda layer: torch.nn.utils.prune.identity(layer, "weight"),
])  # fmt: skip
def test_a_weight_that_is_stored_in_parts_is_named_with_the_call_that_joins_them(tmp_path, wrap):
    import torch.nn.utils.prune  # noqa: F401

    name = "transformer.h.0.mlp.c_fc"
    layer = wrap(nn.Linear(16, 64, bias=False)).state_dict()
    state = {key: value for key, value in STATE.items() if key != f"{name}.weight"}
    state |= {f"{name}.{key}": value for key, value in layer.items()}
    error = refusal(make.save_bare(tmp_path / "m.pt", state), config=GIVEN)
    assert f"{name}.weight" in error.reason and "call torch.nn.utils." in error.hint


def test_a_best_loss_from_before_the_first_validation_is_no_logged_loss(tmp_path):
    payload = {"model": STATE, "model_args": make.NANOGPT, "iter_num": 7, "best_val_loss": 1e9}
    torch.save(payload, tmp_path / "ckpt.pt")
    assert summarise(tmp_path / "ckpt.pt").logged_val_loss is None


@pytest.mark.parametrize(
    "switch", ["use_layernorm", "final_norm", "residual", "use_positional_embedding", "pos_emb", "ln"]
)
def test_a_part_that_every_model_of_the_family_has_cannot_be_switched_off(tmp_path, switch):
    path = make.save_bare(tmp_path / "m.pt", STATE)
    for off in (False, "false"):
        error = refusal(path, config={**GIVEN, switch: off})
        assert f"{switch} = false" in error.reason and f"{switch} = true" in error.hint
    expected = plain_gpt(STATE, 2, F.gelu, TOKENS, NANO)
    assert_near(logits_of(path, config={**GIVEN, switch: True}), expected)


def test_rotary_pairs_of_halves_are_no_llama_by_meta_s_names(tmp_path):
    drawn = torch.Generator().manual_seed(3)
    sizes = {f"attention.w{name}": (16, 16) for name in "qkvo"} | {
        "feed_forward.w1": (32, 16),
        "feed_forward.w2": (16, 32),
    }
    sizes |= {"feed_forward.w3": (32, 16), "attention_norm": (16,), "ffn_norm": (16,)}
    state = {f"layers.0.{name}.weight": torch.randn(size, generator=drawn) for name, size in sizes.items()}
    state |= {f"{name}.weight": torch.randn(64, 16, generator=drawn) for name in ("tok_embeddings", "output")}
    path = make.save_bare(tmp_path / "m.pt", state | {"norm.weight": torch.ones(16)})
    given = {"n_heads": 2, "max_seq_len": 32}
    assert "rope_interleaved = false" in refusal(path, config={**given, "rope_interleaved": False}).reason
    assert torch.equal(logits_of(path, config={**given, "rope_interleaved": True}), logits_of(path, config=given))


@pytest.mark.parametrize("key", ["optimizer", "optimizer_states", "optimizers", "optim"])
@pytest.mark.parametrize("mode", [True, False])
def test_weights_of_a_schedule_free_optimizer_in_its_train_mode_are_told(tmp_path, key, mode):
    state = {
        "state": {},
        "param_groups": [{"lr": 1e-2, "k": 30, "train_mode": mode, "params": [0]}],
    }  # schedulefree 1.4.1
    value = [state] if key.endswith("s") else state
    torch.save({"model": STATE, "model_args": make.NANOGPT, "iter_num": 7, key: value}, tmp_path / "ckpt.pt")
    assert ("schedule-free" in (summarise(tmp_path / "ckpt.pt").note or "")) is mode
    with load_checkpoint(tmp_path / "ckpt.pt") as loaded:
        assert any("optimizer.eval()" in note for note in loaded.notes) is mode


@pytest.mark.parametrize("name", ["grads", "exp_avg", "model_delta", "task_vector"])
def test_tensors_that_are_no_weights_by_their_name_are_not_evaluated_unasked(tmp_path, name):
    torch.save({name: STATE, "model_args": make.NANOGPT, "iter_num": 7}, tmp_path / "ckpt.pt")
    assert name in refusal(tmp_path / "ckpt.pt").reason
    assert_near(logits_of(tmp_path / "ckpt.pt", state=name), plain_gpt(STATE, 2, F.gelu, TOKENS, NANO))
    torch.save({name: STATE, "model": dict(STATE), "model_args": make.NANOGPT, "iter_num": 7}, tmp_path / "both.pt")
    assert_near(logits_of(tmp_path / "both.pt"), plain_gpt(STATE, 2, F.gelu, TOKENS, NANO))


@pytest.mark.parametrize("name", ["momentum_encoder", "delta_net"])
def test_a_model_whose_name_has_the_word_of_a_moment_is_a_model(tmp_path, name):
    torch.save({name: STATE, "model_args": make.NANOGPT, "iter_num": 7}, tmp_path / "ckpt.pt")
    assert_near(logits_of(tmp_path / "ckpt.pt"), plain_gpt(STATE, 2, F.gelu, TOKENS, NANO))


@pytest.mark.parametrize(("field", "value"), [("attn", {"kind": "local"}), ("pos_emb", "rope"), ("mixer", "conv")])
def test_what_the_hint_says_of_a_field_that_names_another_model_works(tmp_path, field, value):
    path = make.save_bare(tmp_path / "m.pt", STATE)
    hint = refusal(path, config={**GIVEN, field: value}).hint
    said = re.search(rf"say {field} = (true|false) in", hint)
    assert said, hint
    logits = logits_of(path, config={**GIVEN, field: said[1] == "true"})
    assert_near(logits, plain_gpt(STATE, 2, F.gelu, TOKENS, NANO))
