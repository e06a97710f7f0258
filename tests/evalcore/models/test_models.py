"""Our own families against transformers' forward on the same weights, and against a plain reading of the formats."""

import json

import pytest
import torch
import torch.nn.functional as F

from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from tests.support import checkpoints as make
from tests.support.references import NANO, ROSE, plain_gpt, tanh_gelu

transformers = pytest.importorskip("transformers")
TOKENS = torch.randint(0, 97, (2, 32), generator=torch.Generator().manual_seed(0))


def spread(model):
    """Weights large enough that a mistake anywhere shows in the logits."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            centre = 1.0 if "norm" in name or "ln_" in name else 0.0
            p.copy_(
                centre * (p.dim() == 1) * (not name.endswith("bias")) + 0.15 * torch.randn(p.shape, generator=generator)
            )
    model.tie_weights()
    return model.eval()


def gpt2(**more):
    sizes = {"n_layer": 3, "n_head": 4, "n_embd": 32, "vocab_size": 97, "n_positions": 32}
    return spread(
        transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, bos_token_id=1, eos_token_id=1, **more))
    )


def llama(**more):
    sizes = {
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 32,
        "intermediate_size": 48, "vocab_size": 97, "max_position_embeddings": 64,
    }  # fmt: skip
    return spread(transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**sizes, **more})))


GPT2S = [
    {},
    {"tie_word_embeddings": False},
    {"n_inner": 48, "activation_function": "gelu"},
    {"scale_attn_by_inverse_layer_idx": True},
    {"layer_norm_epsilon": 1e-3, "activation_function": "relu"},
]
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMAS = [
    {},
    {"num_key_value_heads": 4, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
    {"head_dim": 12, "rms_norm_eps": 1e-3},
    {"rope_parameters": {**LLAMA3, "original_max_position_embeddings": 16}},
    {"rope_parameters": {"rope_type": "linear", "rope_theta": 500.0, "factor": 4.0}},
]


@pytest.mark.parametrize(
    "make_model", [lambda o=o: gpt2(**o) for o in GPT2S] + [lambda o=o: llama(**o) for o in LLAMAS]
)
@pytest.mark.parametrize("form", ["pt", "safetensors", "bin", "sharded"])
def test_equal_to_transformers_own_forward(tmp_path, make_model, form):
    model = make_model()
    with torch.inference_mode():
        expected = model(TOKENS).logits
    if form == "pt":
        path = make.save_hf_state(tmp_path / "a.pt", model.config.to_dict(), model.state_dict())
    else:
        path = tmp_path
        model.save_pretrained(path, max_shard_size="30KB" if form == "sharded" else "5GB")
        if form == "bin":
            (path / "model.safetensors").unlink()
            torch.save(model.state_dict(), path / "pytorch_model.bin")
    with load_checkpoint(path) as loaded, torch.inference_mode():
        assert loaded.family in ("hf-gpt2", "hf-llama") and loaded.vocab_size == 97
        assert (loaded.model(TOKENS) - expected).abs().max() < 1e-5
        assert loaded.parameters == sum(p.numel() for p in model.parameters())
    if form == "sharded":
        assert len(list(path.glob("model-*.safetensors"))) > 1


def test_another_model_type_goes_through_transformers(tmp_path):
    config = transformers.GPTNeoXConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, vocab_size=97,
        max_position_embeddings=32, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    model = spread(transformers.GPTNeoXForCausalLM(config))
    model.save_pretrained(tmp_path)
    with load_checkpoint(tmp_path) as loaded, torch.inference_mode():
        assert (loaded.family, loaded.context_length, loaded.vocab_size) == ("hf-gpt_neox", 32, 97)
        assert (loaded.model.logits(TOKENS) - model(TOKENS).logits).abs().max() < 1e-5
    state = {**model.state_dict(), "gpt_neox.layers.0.attention.q_norm.weight": torch.ones(8)}
    transformers.GPTNeoXForCausalLM.save_pretrained(model, tmp_path / "more", state_dict=state)
    with pytest.raises(CheckpointError, match="1 unknown"):  # transformers itself would drop it with a warning
        load_checkpoint(tmp_path / "more")
    (tmp_path / "config.json").write_text(json.dumps({**config.to_dict(), "hidden_size": 64}))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_checkpoint(tmp_path)


def neox(**config):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = {"vocab_size": 97, "max_position_embeddings": 32, "bos_token_id": 1, "eos_token_id": 1, **sizes, **config}
    return spread(transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**config)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_weights_of_float32_are_not_rounded_to_the_dtype_that_config_json_names(tmp_path, dtype):
    """Mixed-precision training saves float32 weights with the dtype of the pretrained model in config.json."""
    model = neox()
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "dtype": dtype, "torch_dtype": dtype}))
    with load_checkpoint(tmp_path) as loaded, torch.inference_mode():
        assert (loaded.model.logits(TOKENS) - model(TOKENS).logits).abs().max() < 1e-6


def test_a_model_that_sees_later_tokens_is_refused(tmp_path):
    """BERT has a class for causal language modelling; without is_decoder its attention sees both directions."""
    config = transformers.BertConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=32,
    )  # fmt: skip
    spread(transformers.BertLMHeadModel(config)).save_pretrained(tmp_path / "bert")
    with pytest.raises(CheckpointError, match="not causal") as refused:
        load_checkpoint(tmp_path / "bert")
    assert (refused.value.kind, "masks later positions" in refused.value.hint) == ("unsupported", True)
    other = transformers.XLMConfig(vocab_size=97, emb_dim=32, n_layers=1, n_heads=4, max_position_embeddings=32)
    spread(transformers.XLMWithLMHeadModel(other)).save_pretrained(tmp_path / "xlm")  # masks its padding id, 2
    with pytest.raises(CheckpointError, match="not causal"):
        load_checkpoint(tmp_path / "xlm")
    config.is_decoder = True
    decoder = spread(transformers.BertLMHeadModel(config))
    decoder.save_pretrained(tmp_path / "decoder")
    with load_checkpoint(tmp_path / "decoder") as loaded, torch.inference_mode():
        assert (loaded.model.logits(TOKENS) - decoder(TOKENS).logits).abs().max() < 1e-5


def test_quantised_weights_in_a_folder_are_named(tmp_path):
    neox().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    quantised = {**values, "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    (tmp_path / "config.json").write_text(json.dumps(quantised))
    with pytest.raises(CheckpointError, match=r"quantised.*bitsandbytes") as refused:
        load_checkpoint(tmp_path)
    assert refused.value.kind == "unsupported"


@pytest.mark.parametrize("multi_query", [True, False])
def test_a_folder_of_another_type_with_the_names_of_gpt2_goes_through_transformers(tmp_path, multi_query):
    """GPTBigCode keeps GPT-2's names, and its linear weights as nanoGPT does."""
    config = transformers.GPTBigCodeConfig(
        n_layer=2, n_head=2, n_embd=32, vocab_size=97, n_positions=32, multi_query=multi_query
    )
    model = spread(transformers.GPTBigCodeForCausalLM(config))
    model.save_pretrained(tmp_path)
    with load_checkpoint(tmp_path) as loaded, torch.inference_mode():
        assert loaded.family == "hf-gpt_bigcode"
        assert (loaded.model.logits(TOKENS) - model(TOKENS).logits).abs().max() < 1e-5


def test_shards_without_an_index_are_read_and_those_of_an_older_save_are_refused(tmp_path):
    """Names of torchtune: torch's format named like safetensors', with `ft-` before until its version 0.5."""
    model = llama()
    state = model.state_dict()
    names = sorted(state)
    model.config.save_pretrained(tmp_path)
    for number, prefix in ((1, "ft-model"), (2, "ft-model")):
        torch.save(
            {name: state[name] for name in names[number - 1 :: 2]}, tmp_path / f"{prefix}-0000{number}-of-00002.bin"
        )
    with load_checkpoint(tmp_path) as loaded, torch.inference_mode():
        assert (loaded.model(TOKENS) - model(TOKENS).logits).abs().max() < 1e-5
    torch.save({names[0]: state[names[0]] + 1}, tmp_path / "ft-model-00003-of-00003.bin")
    with pytest.raises(CheckpointError, match="shards of several saves"):
        load_checkpoint(tmp_path)
    (tmp_path / "ft-model-00003-of-00003.bin").unlink()
    torch.save(state, tmp_path / "ft-model-00002-of-00002.bin")
    with pytest.raises(CheckpointError, match="and in a shard before it") as refused:
        load_checkpoint(tmp_path)
    assert refused.value.kind == "unsupported"


def test_a_gpt2_whose_activation_only_transformers_knows_goes_through_it_from_a_folder(tmp_path):
    model = gpt2(activation_function="quick_gelu")
    model.save_pretrained(tmp_path / "folder")
    with load_checkpoint(tmp_path / "folder") as loaded, torch.inference_mode():
        assert (loaded.model.logits(TOKENS) - model(TOKENS).logits).abs().max() < 1e-5
    make.save_hf_state(tmp_path / "a.pt", model.config.to_dict(), model.state_dict())
    with pytest.raises(CheckpointError, match="'quick_gelu'") as refused:
        load_checkpoint(tmp_path / "a.pt")
    assert "Hugging Face folder" in refused.value.hint
    values = json.loads((tmp_path / "folder" / "config.json").read_text())
    (tmp_path / "folder" / "config.json").write_text(json.dumps({**values, "activation": "relu"}))
    with pytest.raises(CheckpointError, match="activation"):
        load_checkpoint(tmp_path / "folder")


def test_a_folder_of_a_model_for_images_and_text_is_named(tmp_path):
    transformers.LlavaConfig().save_pretrained(tmp_path)
    torch.save({"a.weight": torch.ones(2, 2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no causal language model of the type llava$") as refused:
        load_checkpoint(tmp_path)
    assert "its language model alone" in refused.value.hint


def test_torchtune_s_own_names_are_named(tmp_path):
    path = tmp_path / "model-00001-of-00001.bin"
    torch.save({"tok_embeddings.weight": torch.ones(4, 2), "layers.0.sa_norm.scale": torch.ones(2)}, path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    for given in (tmp_path, path):
        with pytest.raises(CheckpointError, match="torchtune's own names") as refused:
            load_checkpoint(given)
        assert "FullModelHFCheckpointer" in refused.value.hint


def test_headless_gpt2_folder_is_tied(tmp_path):
    model = gpt2()
    model.transformer.save_pretrained(tmp_path)
    with load_checkpoint(tmp_path) as loaded, torch.inference_mode():
        assert (loaded.model(TOKENS) - model(TOKENS).logits).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("save", "state", "names", "gelu"),
    [
        (make.save_rosellm, make.rosellm_state, ROSE, F.gelu),
        (lambda p: make.save_rosellm(p, config={"activation": "gelu_new"}), make.rosellm_state, ROSE, tanh_gelu),
        (lambda p: make.save_rosellm(p, tied=True), lambda: make.rosellm_state(tied=True), ROSE, F.gelu),
        (make.save_nanogpt, make.nanogpt_state, NANO, F.gelu),
        (lambda p: make.save_nanogpt(p, bias=False), lambda: make.nanogpt_state({"bias": False}), NANO, F.gelu),
        (make.save_build_nanogpt, make.nanogpt_state, NANO, tanh_gelu),
        (make.save_lightning, make.nanogpt_state, NANO, F.gelu),
    ],
)
def test_equal_to_a_plain_reading_of_the_format(tmp_path, save, state, names, gelu):
    tokens = TOKENS % 64
    expected = plain_gpt(state(), 2, gelu, tokens, names)
    other = plain_gpt(state(), 2, tanh_gelu if gelu is F.gelu else F.gelu, tokens, names)
    with load_checkpoint(save(tmp_path / "a.pt")) as loaded, torch.inference_mode():
        assert (loaded.model(tokens) - expected).abs().max() < 1e-5
        assert (loaded.model(tokens) - other).abs().max() > 1e-5  # the two GELUs are told apart


@pytest.mark.parametrize("fields", [7, 8, 9])
def test_rosellm_configs_of_every_age_load(tmp_path, fields):
    kept = dict(list(make.ROSELLM.items())[:fields])
    path = make.save_rosellm(tmp_path / "a.pt")
    payload = torch.load(path, weights_only=True)
    torch.save({**payload, "config": kept}, path)
    assert load_checkpoint(path).family == "rosellm"


def test_autocast_in_bfloat16_stays_close(tmp_path):
    loaded = load_checkpoint(make.save_rosellm(tmp_path / "a.pt"))
    tokens = TOKENS % 64
    with torch.inference_mode():
        exact = loaded.model(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            assert (loaded.model(tokens).float() - exact).abs().max() < 0.05 * exact.abs().max()


def test_a_head_left_out_though_it_is_declared_untied_is_missing(tmp_path):
    model = llama()
    state = {name: tensor for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    path = make.save_hf_state(tmp_path / "a.pt", model.config.to_dict(), state)
    with pytest.raises(CheckpointError, match=r"1 missing: lm_head\.weight"):
        load_checkpoint(path)


def test_pickled_transformers_configs_are_told_apart_by_their_class(tmp_path):
    model = gpt2()
    torch.save({"model": model.state_dict(), "config": model.config}, tmp_path / "a.pt")
    with load_checkpoint(tmp_path / "a.pt") as loaded, torch.inference_mode():
        assert (loaded.model(TOKENS) - model(TOKENS).logits).abs().max() < 1e-5
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
    other = transformers.MistralConfig(**sizes, vocab_size=97, num_key_value_heads=4)
    torch.save({"model": llama(num_hidden_layers=1).state_dict(), "config": other}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="does not fit a hf-mistral model"):
        load_checkpoint(tmp_path / "b.pt")
