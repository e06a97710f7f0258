"""A configuration is found wherever it stands and whatever it was pickled as; what is not there is said."""

import argparse
import collections
import dataclasses
import json
import pathlib
import sys
import types
from random import Random
from typing import NamedTuple

import pytest
import torch

from evalcore.archive import ArchiveError, summarise
from evalcore.archive.model_digest import model_digest
from evalcore.loading.checkpoint import CheckpointError, load_checkpoint
from evalcore.messages import ModelSpec
from tests.support import checkpoints as make

SIZES = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 32, "vocab_size": 64, "bias": True}
TOKENS = torch.arange(24).reshape(2, 12)


def of_trainer(cls, monkeypatch):
    """The class as if the trainer's own module had it: this process cannot import it again."""
    module = types.ModuleType("trainer_of_theirs")
    cls.__module__, cls.__qualname__ = module.__name__, cls.__name__
    setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return cls


def dict_subclass(monkeypatch):
    class EasyDict(dict):
        pass

    return of_trainer(EasyDict, monkeypatch)(SIZES)


def nested_dataclass(monkeypatch):
    inner = of_trainer(dataclasses.make_dataclass("ModelConfig", SIZES), monkeypatch)
    outer = dataclasses.make_dataclass("TrainConfig", ["out", "model", "lr"])
    outer.__module__ = "trainer_of_theirs"
    sys.modules["trainer_of_theirs"].TrainConfig = outer
    return outer(pathlib.Path("/x"), inner(**SIZES), 3e-4)


def pydantic_model(monkeypatch):
    pydantic = pytest.importorskip("pydantic")
    fields = {name: (type(value), value) for name, value in SIZES.items()}
    return of_trainer(pydantic.create_model("PydanticConfig", **fields), monkeypatch)()


def omegaconf(monkeypatch):
    """OmegaConf's own layout: a DictConfig whose state holds a node for each value under `_content`."""

    class Node:
        def __init__(self, value):
            self._val, self._key, self._flags_cache = value, None, None

    class DictConfig:
        def __init__(self, content):
            self.__dict__.update(_metadata={"ref_type": "Any"}, _parent=None, _content=content)

    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    for cls, name in ((Node, "AnyNode"), (DictConfig, "DictConfig")):
        cls.__module__, cls.__qualname__, cls.__name__ = f"omegaconf.{name.lower()}", name, name
        module = types.ModuleType(cls.__module__)
        setattr(module, name, cls)
        monkeypatch.setitem(sys.modules, cls.__module__, module)
    model = DictConfig({name: Node(value) for name, value in SIZES.items()})
    return DictConfig({"lr": Node(0.1), "model": model})


KINDS = {
    "dict subclass": dict_subclass,
    "ordered": lambda m: collections.OrderedDict(SIZES),
    "namespace": lambda m: argparse.Namespace(**SIZES, out=pathlib.Path("/x")),
    "simple namespace": lambda m: types.SimpleNamespace(**SIZES),
    "nested dataclass": nested_dataclass,
    "pydantic": pydantic_model,
    "OmegaConf": omegaconf,
    "JSON text": lambda m: json.dumps(SIZES),
    "text for numbers": lambda m: {**SIZES, "n_head": "2", "n_layer": "2", "bias": "true"},
}


def assert_found(path):
    """The value is that of the same weights with a plain configuration."""
    torch.save({"model": make.nanogpt_state(), "config": SIZES}, path.with_name("plain.pt"))
    plain = load_checkpoint(path.with_name("plain.pt")).model(TOKENS)
    with load_checkpoint(path) as loaded:
        assert loaded.family == "nanogpt" and torch.equal(loaded.model(TOKENS), plain)


@pytest.mark.parametrize("kind", KINDS)
def test_a_configuration_of_any_kind_is_read(tmp_path, monkeypatch, kind):
    config = KINDS[kind](monkeypatch)
    torch.save({"model": make.nanogpt_state(), "step": 3, "config": config}, tmp_path / "a.pt")
    assert_found(tmp_path / "a.pt")


SPLIT = {"model": {k: SIZES[k] for k in ("n_layer", "n_head", "n_embd", "bias")},
         "data": {"vocab_size": 64, "block_size": 32}}  # fmt: skip
PLACES = {
    "gpt_cfg": {"gpt_cfg": SIZES},
    "hyperparameters": {"hyperparameters": SIZES},
    "model_kwargs": {"model_kwargs": SIZES},
    "any name": {"what_i_built": SIZES},
    "two levels": {"checkpoint_args": {"model_args": SIZES}},
    "top level": SIZES,
    "vocabulary above": {"config": {"vocab_size": 64, "lr": 1e-3, "model": SIZES}},
    "type above": {"config": {"model_type": "gpt", "model": SIZES}},
    "context above": {"config": {"block_size": 32, "data": "x", "model_config": SIZES}},
    "arch": {"config": {"lr": 1e-3, "arch": SIZES}},
    "split": {"config": SPLIT},
    "args": {"args": argparse.Namespace(**SIZES)},
}


@pytest.mark.parametrize("place", PLACES)
def test_a_configuration_in_any_place_is_read(tmp_path, place):
    torch.save({**PLACES[place], "model": make.nanogpt_state(), "step": 3}, tmp_path / "a.pt")
    assert_found(tmp_path / "a.pt")


def test_fields_pickled_without_names_are_refused_with_the_class(tmp_path, monkeypatch):
    class Sizes(NamedTuple):
        block_size: int = 32
        vocab_size: int = 64
        n_layer: int = 2
        n_head: int = 2

    config = of_trainer(Sizes, monkeypatch)()
    torch.save({"model": make.nanogpt_state(), "config": config}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"trainer_of_theirs\.Sizes was pickled without the names") as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "[model] config" in caught.value.hint
    with load_checkpoint(tmp_path / "a.pt", spec=ModelSpec(config={"family": "nanogpt", "n_head": 2})) as loaded:
        assert loaded.family == "nanogpt"


def test_the_model_s_own_arguments_go_before_the_script_s_globals(tmp_path):
    globals_of_script = {"n_layer": 12, "n_head": 12, "n_embd": 768, "vocab_size": 50304, "block_size": 1024}
    payload = {"config": globals_of_script, "model_args": SIZES, "iter_num": 1, "model": make.nanogpt_state()}
    torch.save(payload, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").config_source == "payload:model_args"
    assert_found(tmp_path / "a.pt")


def test_nested_yaml_beside_the_weights_is_read(tmp_path):
    lines = ["run: x", "model:", *(f"  {name}: {str(value).lower()}" for name, value in SIZES.items()), "optim:"]
    (tmp_path / "config.yaml").write_text("\n".join([*lines, "  betas:", "  - 0.9", "  lr: 0.1", ""]))
    path = make.save_bare(tmp_path / "model.pt")
    summary = summarise(path)
    assert summary.config is not None and {name: summary.config[name] for name in SIZES} == SIZES
    assert summary.config_source == "sidecar:config.yaml"
    assert_found(path)


def test_a_bomb_of_nested_mappings_ends_early(tmp_path):
    nested: dict = {}
    for _ in range(40):
        nested = {f"k{i}": nested for i in range(30)}
    torch.save({"model": make.nanogpt_state(), "config": nested}, tmp_path / "a.pt")
    assert summarise(tmp_path / "a.pt").config is None


def random_value(random, depth):
    text = '{"n_layer": 2, "x": {"dim": 3}}'
    kinds = [None, True, -1, 3, 2**70, 0.5, float("nan"), "", "2", "{", "{}", text, "\ud800", [1, 2], (3,), {}]
    kinds += [torch.zeros(2), torch.tensor(3)]
    keys = ["config", "model_args", "model", "vocab_size", "n_layer", "n_head", "dim", "act", "_val", "_content"]
    keys += ["x" * 300]
    if depth and random.random() < 0.6:
        return {random.choice([*keys, 7, None]): random_value(random, depth - 1) for _ in range(random.randrange(6))}
    return random.choice(kinds)


def test_any_payload_is_summarised_or_refused_with_a_kind(tmp_path):
    """What a file holds costs this file at most a refusal, never an exception that ends a daemon's look."""
    random = Random(0)
    for number in range(300):
        payload = {**{f"k{i}": random_value(random, 4) for i in range(3)}, "config": random_value(random, 5)}
        payload["model"] = make.nanogpt_state() if number % 2 else random_value(random, 2)
        torch.save(payload, tmp_path / "a.pt")
        try:
            summary = summarise(tmp_path / "a.pt")
            model_digest(summary, ModelSpec(config={"a": float("nan")}))
            json.dumps(summary.config)
            load_checkpoint(tmp_path / "a.pt").close()
        except (ArchiveError, CheckpointError) as error:
            assert error.kind and error.reason
