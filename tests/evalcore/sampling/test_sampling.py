"""Generated texts: token for token those of the original code, reproducible, refused where they would mean nothing."""

import json
import logging
import pickle
from contextlib import nullcontext
from dataclasses import replace

import pytest
import tokenizers
import torch
import transformers
from transformers.generation import logits_process as warpers

from evalcore.data.errors import DataError
from evalcore.data.tokenizers import build_tokenizer
from evalcore.loading.checkpoint import load_checkpoint
from evalcore.messages import ModelSpec
from evalcore.sampling.__main__ import main
from evalcore.sampling.choice import TokenChoice, allowed_chances
from evalcore.sampling.prompts import continuation, encode_prompt, ends_of_text, refuse_other_tokenizer
from evalcore.sampling.sample_model import Interrupted, SampleRun
from evalcore.sampling.spec import SampleSpec, sample_spec
from tests.support.checkpoints import nanogpt_state, save_nanogpt
from tests.support.references import NANO, plain_gpt

logging.getLogger("transformers").setLevel(logging.ERROR)
PROMPTS = ("The ship", "a", "The ship")


def run_of(loaded, tokenizer="bytes", **more):
    built = build_tokenizer(tokenizer)
    facts = (loaded.model, loaded.vocab_size, loaded.context_length, loaded.config, built, torch.device("cpu"))
    return SampleRun(*facts, **more)


def texts_of(path, spec, tokenizer="bytes", model=None, **more):
    with load_checkpoint(path, spec=model) as loaded:
        return run_of(loaded, tokenizer, folder=str(path), **more).texts(spec)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_nanogpt(tmp_path_factory.mktemp("nanogpt") / "ckpt.pt", vocab_size=257, block_size=24)


def test_greedy_tokens_are_those_of_nanogpt_s_generate_also_beyond_its_context(checkpoint):
    """nanoGPT's loop: crop to block_size, the last position's logits, the likeliest id, append."""
    state = nanogpt_state({"vocab_size": 257, "block_size": 24})
    tokens = torch.tensor([list(b"The ship")])
    for _ in range(40):
        logits = plain_gpt(state, 2, torch.nn.functional.gelu, tokens[:, -24:], NANO)[:, -1]
        tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), 1)
    (text,) = texts_of(checkpoint, sample_spec(("The ship",), max_new_tokens=40))
    assert list(text.tokens) == tokens[0, 8:].tolist() and text.ended == "length" and text.note is None


KINDS = {
    "gpt2": {}, "llama": {"num_key_value_heads": 2}, "qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "stablelm": {"num_key_value_heads": 4},
}  # fmt: skip


def hugging_face(folder, model_type, **more):
    torch.manual_seed(3)
    sizes = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
             "intermediate_size": 48, "max_position_embeddings": 96, "bos_token_id": 256,
             "eos_token_id": 256}  # fmt: skip
    config = transformers.AutoConfig.for_model(model_type, **{**sizes, **more})
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.4 if parameter.dim() > 1 else 1))
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("model_type", KINDS)
def test_greedy_tokens_are_those_of_transformers_generate_and_end_where_it_ends(tmp_path, model_type):
    """stablelm is no family of ours: transformers builds it, and its forward pass goes the generic way."""
    model = hugging_face(tmp_path, model_type, **KINDS[model_type])
    prompt = torch.tensor([list(b"The ship")])
    wanted = model.generate(prompt, do_sample=False, max_new_tokens=60, eos_token_id=None, pad_token_id=0)[
        0, 8:
    ].tolist()
    ends = wanted[20]  # an id of the text itself, so that both end before the limit
    last = min(wanted.index(end) for end in {ends, 256} & set(wanted))
    kept = wanted[:last]
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [ends, 256]}))
    (text,) = texts_of(tmp_path, sample_spec(("The ship",), max_new_tokens=60))
    assert list(text.tokens) == kept and text.ended == "end_of_text"
    model.generation_config.eos_token_id = [ends, 256]
    again = model.generate(prompt, do_sample=False, max_new_tokens=60, pad_token_id=0)[0, 8:].tolist()
    assert again == [*kept, wanted[last]]


def test_a_factory_s_model_generates_the_same_text(tmp_path, checkpoint):
    (tmp_path / "sampled_model.py").write_text(
        "import torch\nfrom tests.support.references import NANO, plain_gpt\n"
        "class Mine(torch.nn.Module):\n"
        "    def __init__(self, state):\n        super().__init__()\n        self.state = state\n"
        "        self.context_length = 24\n"
        "    def forward(self, tokens):\n"
        "        return plain_gpt(self.state, 2, torch.nn.functional.gelu, tokens, NANO)\n"
        "def build(config, state):\n    return Mine(dict(state))\n"
    )
    spec = sample_spec(PROMPTS, max_new_tokens=30)
    factory = ModelSpec("sampled_model:build", python_path=(str(tmp_path),))
    assert texts_of(checkpoint, spec, model=factory) == texts_of(checkpoint, spec)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, None, None), (1.3, 5, None), (1.0, None, 0.6), (0.9, 12, 0.8)]
)
def test_the_chances_of_a_draw_are_those_of_transformers(temperature, top_k, top_p):
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 3
    steps = [warpers.TemperatureLogitsWarper(temperature)]
    steps += [warpers.TopKLogitsWarper(top_k)] if top_k else []
    steps += [warpers.TopPLogitsWarper(top_p)] if top_p else []
    expected = logits
    for step in steps:
        expected = step(None, expected)
    spec = sample_spec(("x",), temperature=temperature, top_k=top_k, top_p=top_p)
    chances = allowed_chances(logits[0], spec)
    assert torch.allclose(chances, expected.softmax(-1)[0], atol=1e-12)
    choice = TokenChoice(spec, "x")
    drawn = torch.bincount(torch.tensor([choice.next(logits[0]) for _ in range(4000)]), minlength=40) / 4000
    assert (drawn - chances).abs().max() < 0.03 and bool((drawn[chances == 0] == 0).all())


def test_a_drawn_text_depends_on_seed_and_prompt_and_on_no_other_prompt(checkpoint):
    spec = sample_spec(PROMPTS, max_new_tokens=20, temperature=1.0, seed=7)
    first, second, copy = texts_of(checkpoint, spec)
    assert texts_of(checkpoint, replace(spec, prompts=("a", "The ship"))) == (second, first)
    assert first.tokens != copy.tokens  # the same prompt twice gives two texts
    assert texts_of(checkpoint, replace(spec, seed=8, prompts=("The ship",)))[0].tokens != first.tokens


def test_a_prompt_longer_than_the_context_is_cut_and_the_note_says_what_is_read(checkpoint):
    (text,) = texts_of(checkpoint, sample_spec(("x" * 30 + "The ship",), max_new_tokens=9))
    assert text.note == "the prompt has 38 tokens: the model reads the last 24"
    (same,) = texts_of(checkpoint, sample_spec(("x" * 16 + "The ship",), max_new_tokens=9))
    assert same.tokens == text.tokens and same.note is None


def test_a_time_limit_keeps_the_beginning_of_the_text_and_says_so(checkpoint):
    spec = replace(sample_spec(("The ship", "a"), max_new_tokens=50), timeout_s=1e-9)
    texts = texts_of(checkpoint, spec)
    assert [(t.text, t.ended) for t in texts] == [("", "stopped")] * 2
    assert texts[1].note == "stopped after 1e-09 s, at token 0 of 50"


def test_an_interruption_ends_it_between_two_tokens(checkpoint):
    asked = []
    with pytest.raises(Interrupted):
        texts_of(checkpoint, sample_spec(("a",)), interrupted=lambda: asked.append(1) or len(asked) > 3)
    assert len(asked) == 4


def test_logits_that_are_not_finite_end_the_text_with_a_note(tmp_path):
    state = nanogpt_state({"vocab_size": 257})
    state["transformer.ln_f.weight"].fill_(float("nan"))
    save_nanogpt(tmp_path / "ckpt.pt", vocab_size=257)
    payload = torch.load(tmp_path / "ckpt.pt", weights_only=True) | {"model": state}
    torch.save(payload, tmp_path / "ckpt.pt")
    for temperature in (None, 1.0):
        (text,) = texts_of(tmp_path / "ckpt.pt", sample_spec(("a",), temperature=temperature))
        assert (text.text, text.ended) == ("", "not_finite") and "not finite after 0 tokens" in text.note


@pytest.mark.parametrize(("vocab_size", "right"), [(255, False), (256, True), (1280, True), (1281, False)])
def test_a_tokenizer_with_more_ids_than_the_model_or_far_fewer_is_refused(vocab_size, right):
    refusal = nullcontext() if right else pytest.raises(DataError, match="was trained with another tokenizer")
    with refusal:
        refuse_other_tokenizer(build_tokenizer("bytes"), vocab_size)


def test_an_empty_prompt_is_the_beginning_of_a_text_where_the_tokenizer_has_one():
    assert encode_prompt("", build_tokenizer("bytes+eos"), 257, None).ids == (256,)
    with pytest.raises(DataError, match="the prompt is empty"):
        encode_prompt("", build_tokenizer("bytes"), 257, None)


def test_ids_become_text_as_their_tokenizer_writes_it(tmp_path):
    """SentencePiece's spelling: `▁` is a space, dropped where a text begins; `<s>` stands before a prompt."""
    vocab = {"<s>": 0, "<unk>": 1, "\u2581The": 2, "\u2581ship": 3, "s": 4, "<0xC3>": 5, "<0xA9>": 6}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    made.decoder = tokenizers.decoders.Sequence([
        tokenizers.decoders.Replace("\u2581", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse(),
        tokenizers.decoders.Strip(" ", 1, 0)])  # fmt: skip
    made.add_special_tokens(["<s>"])
    made.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = build_tokenizer(str(tmp_path / "tokenizer.json"))
    prompt = encode_prompt("s", tokenizer, 7, None)
    assert prompt.ids == (0, 4)
    assert continuation(prompt, [3, 4, 5, 6, 9], tokenizer) == " ships\u00e9<|id 9|>"
    assert build_tokenizer("bytes+eos").decode([104, 105, 256, 255, 300]) == "hi<|endoftext|>\ufffd<|id 300|>"


def test_a_prompt_for_nanochat_begins_and_ends_as_its_own_engine_has_it():
    """karpathy/nanochat 92d63d4: base_train encodes with prepend="<|bos|>"; engine.py ends at two tokens."""
    tokenizer = build_tokenizer("bytes+eos")  # its one special token begins a text, too
    assert encode_prompt("hi", tokenizer, 300, None, "nanochat").ids == (256, 104, 105)
    assert encode_prompt("hi", tokenizer, 300, None, "nanogpt").ids == (104, 105)
    assert ends_of_text({"eos_token_id": 7}, "", tokenizer, "nanochat") == {256}
    assert ends_of_text({"eos_token_id": 7}, "", tokenizer, "nanogpt") == {7}


def test_nanogpt_s_meta_pkl_is_the_tokenizer_of_its_characters(tmp_path, capsys):
    """data/shakespeare_char/prepare.py writes stoi and itos; sample.py encodes with the one, decodes with the other."""
    signs = sorted(set("The ship sails.\n\u00e9"))
    itos = dict(enumerate(signs))
    (tmp_path / "meta.pkl").write_bytes(
        pickle.dumps({"vocab_size": len(itos), "itos": itos, "stoi": {s: i for i, s in itos.items()}})
    )
    tokenizer = build_tokenizer(str(tmp_path / "meta.pkl"))
    assert tokenizer.encode("ship\u00e9").tolist() == [signs.index(sign) for sign in "ship\u00e9"]
    assert tokenizer.decode([signs.index("T"), 99, signs.index("\u00e9")]) == "T<|id 99|>\u00e9"
    assert tokenizer.id_bytes().tolist() == [len(sign.encode()) for sign in signs]
    path = save_nanogpt(tmp_path / "ckpt.pt", vocab_size=len(signs))
    arguments = [str(path), "--device", "cpu", "--tokenizer", str(tmp_path / "meta.pkl"), "--prompt"]
    assert main([*arguments, "The ship", "--max-new-tokens", "5", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]["text"]) <= set(signs)
    assert main([*arguments, "Zebra"]) == 5
    assert "has no character 'Z'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": 0.0}, "must be above 0: leave it out for greedy"),
        ({"seed": 3}, "seed has no effect on greedy"),
        ({"greedy": True, "top_k": 3}, "top_k has no effect on greedy"),
        ({"top_p": 1.5}, "at most 1"),
        ({"top_k": 0}, "at least 1"),
        ({"max_new_tokens": 0}, "between 1 and"),
        ({"temperature": float("nan")}, "above 0"),
    ],
)
def test_settings_that_contradict_or_are_out_of_range_are_refused_in_a_sentence(given, words):
    with pytest.raises(ValueError, match=words):
        sample_spec(("a",), **given)
    assert sample_spec(("a",), top_k=3) == SampleSpec(("a",), 64, 1.0, 3, None, 0)


def test_the_command_prints_the_texts_with_control_characters_escaped(checkpoint, capsys, tmp_path):
    common = [str(checkpoint), "--device", "cpu", "--prompt"]
    assert main([*common, "\x1b[31mred", "--tokenizer", "bytes", "--max-new-tokens", "3"]) == 0
    out = capsys.readouterr().out
    assert "\\x1b[31mred|" in out and "\x1b" not in out
    assert main([*common, "a", "--prompt", "b", "--tokenizer", "bytes", "--json", "--top-k", "9"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["prompt"] for row in rows] == ["a", "b"] and rows[0]["step"] == 2000 and rows[0]["seed"] == 0
    assert main([*common, "a"]) == 5
    assert "no tokenizer is known for" in capsys.readouterr().err
    assert main([str(tmp_path / "none.pt"), "--prompt", "a", "--tokenizer", "bytes"]) == 4
    assert main([*common, "a", "--tokenizer", "bytes", "--temperature", "0"]) == 2
    (tmp_path / "bad.pt").write_bytes(b"no checkpoint at all")
    assert main([str(tmp_path / "bad.pt"), "--prompt", "a", "--tokenizer", "bytes", "--device", "cpu"]) == 8


@pytest.mark.parametrize(
    ("flag", "value", "why"),
    [
        ("--model-config", "5", "5 is no JSON object"),
        ("--model-config", "{", "not JSON"),
        ("--model-config", "[" * 100_000, "not JSON"),
        ("--device", "foo", "'foo' is no device"),
    ],
)
def test_a_flag_without_meaning_is_refused_in_one_sentence(checkpoint, capsys, flag, value, why):
    try:
        status = main([str(checkpoint), "--prompt", "a", "--tokenizer", "bytes", flag, value])
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr().err
    assert status == 2 and why in said and "Traceback" not in said and len(said.splitlines()[-1]) < 200
