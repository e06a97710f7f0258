"""The model digest: what turns a file into a model counts, and nothing else."""

import json
from dataclasses import replace

import torch

from evalcore.archive import summarise
from evalcore.archive.model_digest import factory_digest, model_digest
from evalcore.messages import EvalSetSpec, ModelSpec
from tests.support import checkpoints as make

GPT2 = {"model_type": "gpt2", "n_layer": 2, "n_head": 2, "n_embd": 16, "vocab_size": 64, "n_positions": 32}


def digest_of(path, **settings):
    return model_digest(summarise(path), ModelSpec(**settings))


def test_all_self_describing_files_of_one_family_share_one_model_digest(tmp_path):
    first, second = make.save_rosellm(tmp_path / "a.pt", seed=1), make.save_rosellm(tmp_path / "b.pt", seed=2, step=9)
    assert digest_of(first) == digest_of(second)
    (tmp_path / "config.json").write_text(json.dumps({**make.ROSELLM, "n_heads": 4}))  # not used: the file has its own
    assert digest_of(first) == digest_of(second)
    assert digest_of(make.save_nanogpt(tmp_path / "c.pt")) != digest_of(first)


def test_every_model_setting_moves_the_model_digest(tmp_path):
    path = make.save_rosellm(tmp_path / "a.pt")
    settings = [{}, {"config": {"n_heads": 4}}, {"config": {"n_heads": 1}}, {"state": "ema"}, {"factory": "m:f"},
                {"factory": "m:g"}, {"factory": "m:f", "factory_digest": "sha256:1"}]  # fmt: skip
    digests = [digest_of(path, **one) for one in settings]
    assert len(set(digests)) == len(settings)
    assert digest_of(path, python_path=("/elsewhere",)) == digests[0]


def test_a_corrected_sidecar_moves_the_model_digest_and_its_layout_does_not(tmp_path):
    path = make.save_bare(tmp_path / "model.pt")
    sidecar = tmp_path / "config.json"
    sidecar.write_text(json.dumps(GPT2))
    before = digest_of(path)
    sidecar.write_text(json.dumps(dict(reversed(GPT2.items())), indent=4))
    assert digest_of(path) == before
    sidecar.write_text(json.dumps({**GPT2, "n_head": 4}))
    assert digest_of(path) != before
    assert [name for name, _ in summarise(path).sidecars] == ["config.json"]


def test_a_hugging_face_folder_s_configuration_is_in_its_model_digest(tmp_path):
    from safetensors.torch import save_file

    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    save_file({"wte.weight": torch.zeros(64, 16), "wpe.weight": torch.zeros(32, 16)}, tmp_path / "model.safetensors")
    before = digest_of(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**GPT2, "activation_function": "relu"}))
    assert digest_of(tmp_path) != before


def test_what_was_assumed_moves_the_model_digest(tmp_path):
    summary = summarise(make.save_rosellm(tmp_path / "a.pt"))
    digests = {model_digest(replace(summary, assumed=a), ModelSpec()) for a in ((), ("gelu=tanh",), ("gelu=exact",))}
    assert len(digests) == 3


def test_the_factory_s_code_counts_with_all_that_its_module_imports_from_the_same_place(tmp_path):
    (tmp_path / "their_gpt.py").write_text("import torch\nfrom layers import Block\ndef build(c, s): ...\n")
    (tmp_path / "layers.py").write_text("import norms\nclass Block: ...\n")
    (tmp_path / "norms.py").write_text("EPS = 1e-5\n")
    (tmp_path / "unrelated.py").write_text("x = 1\n")
    place = (str(tmp_path),)
    before = factory_digest("their_gpt:build", place)
    assert before.startswith("sha256:") and factory_digest("their_gpt:other", place) == before
    (tmp_path / "unrelated.py").write_text("x = 2\n")
    assert factory_digest("their_gpt:build", place) == before
    (tmp_path / "norms.py").write_text("EPS = 1e-6\n")
    assert factory_digest("their_gpt:build", place) != before


def test_the_factory_s_package_counts_as_a_whole_and_is_never_imported(tmp_path):
    inner = tmp_path / "pkg_of_theirs" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "pkg_of_theirs" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (inner / "model.py").write_text("def build(c, s): ...\n")
    (inner / "act.py").write_text("a = 1\n")
    place = (str(tmp_path),)
    before = factory_digest("pkg_of_theirs.deep.model:build", place)
    assert before.startswith("sha256:")
    (inner / "act.py").write_text("a = 2\n")
    assert factory_digest("pkg_of_theirs.deep.model:build", place) != before
    assert factory_digest("no_such_package_of_theirs:build", place) == "" == factory_digest(None)


def test_the_eval_digest_speaks_of_data_and_measurement_only():
    spec = EvalSetSpec("val", ("a.bin",), data_digest="sha256:1", seq_len=64)
    assert spec.digest() != replace(spec, seq_len=32).digest()
    assert spec.digest() != replace(spec, data_digest="sha256:2").digest()
