"""GPT-2-small shape as a Hugging Face folder: ours beside lm-evaluation-harness and transformers' own forward."""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import tempfile
from pathlib import Path

from bench import files
from bench.processes import Ran, machine, python

NEEDS = {"harness": "lm_eval", "transformers": "transformers"}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8, help="of the others; ours is found by memory")
    parser.add_argument("--dtypes", nargs="*", default=["float32", "bfloat16"], choices=["float32", "bfloat16"])
    parser.add_argument("--layers", type=int, default=12, help="12 layers of 768 are GPT-2 small")
    parser.add_argument("--vocab-size", type=int, default=50257)


def run(options: argparse.Namespace) -> None:
    print(f"# others: {machine()}")
    missing = [package for package in NEEDS.values() if importlib.util.find_spec(package) is None]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (the extra `bench`)")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = _hugging_face(folder / "model", options.layers, options.vocab_size)
        data = str(files.tokens(folder, options.windows * 1024 + 1, options.vocab_size))
        others: dict[str, Ran] = {}
        for dtype in options.dtypes:
            ours = python(
                *("-m", "evalcore", "--checkpoint-path", str(model), "--data", data, "--dtype", dtype),
                *("--device", "cpu", "--tokenizer-name", "bytes", "--json"),
            )
            _show(dtype, "ours", ours, ours)
            for way, package in NEEDS.items():
                if package in missing:
                    continue
                if way not in others:  # in float32: as people run them
                    others[way] = python(
                        "bench/other_ways.py", way, str(model), data, "1024", str(options.batch), "float32"
                    )
                _show(dtype, way, others[way], ours)


def _show(dtype: str, way: str, ran: Ran, ours: Ran) -> None:
    print(
        f"{dtype}: {way:12} {ran.cpu_s:6.1f} CPU-s {ran.wall_s:6.1f} s {ran.peak_bytes / 1e9:.2f} GB"
        f" | ours takes {ran.cpu_s / ours.cpu_s:.2f}x less CPU | loss {ran.printed['loss']:.7f}"
    )


def _hugging_face(folder: Path, layers: int, vocab_size: int) -> Path:
    writer = multiprocessing.get_context("spawn").Process(target=_write, args=(folder, layers, vocab_size))
    writer.start()
    writer.join()
    if writer.exitcode != 0:
        raise SystemExit(f"{folder} could not be written; this benchmark needs transformers (the extra `hf`)")
    return folder


def _write(folder: Path, layers: int, vocab_size: int) -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    ends = {"bos_token_id": vocab_size - 1, "eos_token_id": vocab_size - 1}
    no_dropout = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    config = transformers.GPT2Config(vocab_size=vocab_size, n_layer=layers, **ends, **no_dropout)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
