"""The checks of `make test-gpu`, run on the simulated accelerator and on the CPU: they hold, and they can fail."""

import json
import subprocess
import sys

import pytest
import torch

from bench import gpu_variants
from bench.gpu_variants import VARIANTS, Variant, variant
from evalcore.measure import scorer
from evalcore.measure.evaluate import evaluate
from evalcore.models.decoder import Decoder, DecoderShape
from tests.gpu import checks, processes
from tests.support.launches import ROOT
from tests.support.models import SmallModel, tokens_for
from tests.support.simulated_accelerator import simulated

SMALL = {
    "vocab_size": 97, "max_position_embeddings": 32, "n_layers": 2, "n_heads": 2, "d_model": 16, "d_ff": 32,
}  # fmt: skip


@pytest.mark.parametrize("check", checks.CHECKS, ids=lambda check: check.__name__)
def test_every_check_holds_on_the_simulated_accelerator(check):
    with simulated(capacity=64 << 20):
        subject = checks.Subject(torch.device("sim", 0), windows=12, config=SMALL)
        assert check(subject)
        del subject


def test_a_device_that_computes_with_fewer_bits_is_found(monkeypatch):
    honest = scorer.target_nats
    with simulated():
        subject = checks.Subject(torch.device("sim", 0), windows=3, config=SMALL)
        monkeypatch.setattr(scorer, "target_nats", lambda hidden, *rest: honest(hidden.bfloat16().float(), *rest))
        with pytest.raises(AssertionError, match="on the device"):
            checks.float32_is_the_cpus_value(subject)
        del subject


def test_ranks_give_one_value(tmp_path):
    arguments = processes.save_inputs(tmp_path, windows=4)
    assert "ranks 1, 2: spread" in processes.every_number_of_ranks_gives_one_value(arguments, 2, device="cpu")


#: Runs a module as `python -m` does, where only the standard library, torch, numpy and tiktoken can be imported.
BARE = """
import importlib.metadata as metadata, re, runpy, sys
wanted, held = ["torch", "numpy", "tiktoken"], set()
while wanted:
    name = re.sub("[-_.]+", "-", re.match("[A-Za-z0-9._-]+", wanted.pop())[0]).lower()
    if name not in held:
        held.add(name)
        try:
            wanted += [line for line in metadata.requires(name) or [] if "extra ==" not in line]
        except metadata.PackageNotFoundError:
            pass  # of another platform
packages = metadata.packages_distributions()
held |= {"ckptwatch"}
foreign = {top for top, names in packages.items() if not any(re.sub("[-_.]+", "-", n).lower() in held for n in names)}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in foreign:
            raise ImportError(f"{name} is not installed on this machine")
assert {"sqlalchemy", "pydantic", "pytest"} <= foreign and not {"torch", "numpy"} & foreign
sys.meta_path.insert(0, Refuse())
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def bare(*arguments):
    return subprocess.run([sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, cwd=ROOT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here: make test-gpu")
def test_without_a_device_it_tells_what_it_would_do_and_succeeds():
    done = bare("tests.gpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("skipped: no CUDA device\n") and "two launches share no device" in done.stdout


def test_the_benchmark_of_a_gpu_runs_where_torch_numpy_and_tiktoken_are_all_there_is():
    sizes = ["--windows", "1", "--layers", "1", "--repeats", "1", "--items", "2", "--vocabulary", "500"]
    done = bare("bench.gpu", "--device", "cpu", *sizes)
    assert done.returncode == 0, done.stderr
    plain, ours, tasks, said = done.stdout.splitlines()
    losses = [float(line.rpartition("loss ")[2]) for line in (plain, ours)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3) and json.loads(said)["device"] == "cpu"
    assert tasks.startswith("HellaSwag") and tasks.endswith("another choice on 0 of 2 items")


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_device_does_not_support_is_refused_with_the_reason(name):
    with pytest.raises(RuntimeError, match="it needs a CUDA device, not cpu"):
        variant(name, SmallModel(), torch.device("cpu"))


def test_a_variant_has_the_head_of_the_model_and_flex_attention_gives_the_plain_attention_back(monkeypatch):
    model, tokens = Decoder(DecoderShape(64, 32, 1, 2, 16, 32)).eval().requires_grad_(False), tokens_for(200, 64)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    expected, original = evaluate(model, tokens).loss, torch.nn.functional.scaled_dot_product_attention
    assert evaluate(Variant(model, model.hidden), tokens).loss == expected
    monkeypatch.setattr(gpu_variants, "_demand_compiler", lambda: None)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # eager: no compiler is needed here
    flex = Variant(model, gpu_variants.VARIANTS["flex-attention"](model))
    assert evaluate(flex, tokens, seq_len=32, batch_size=1).loss == pytest.approx(expected, rel=1e-6)
    assert torch.nn.functional.scaled_dot_product_attention is original
