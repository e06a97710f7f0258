"""Every benchmark runs small, in a process of its own, and prints values that are right; no time is asserted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.__main__ import BENCHES
from tests.browser.program import chromium

ROOT = Path(__file__).resolve().parents[2]
NUMBER = r"([\d.,]+(?:e[+-]\d+)?)"


@dataclass(frozen=True)
class Small:
    """flags: of a run that takes seconds. expected: expressions that match a printed line each, `{}` for a number.

    exact: the number that stands after a text. at_most: its bound, where rounding shows in it.
    """

    flags: str
    expected: tuple[str, ...]
    exact: tuple[tuple[str, float], ...] = ()
    at_most: tuple[tuple[str, float], ...] = ()


SMALL = {
    "core": Small(
        "--windows 1 --repeats 1 --layers 1 --vocab-size 512 --dtypes float32",
        (r"  1 windows float32: plain +{} CPU-s .* \| ours +{} CPU-s .* {} GB \| {}x CPU, .* {}% of {} .*",),
        at_most=(("loss differs by ", 1e-5),),
    ),
    "others": Small(
        "--windows 1 --layers 1 --vocab-size 512 --dtypes float32",
        (
            r"float32: ours +{} CPU-s .* loss 6.\d+",
            r"float32: transformers +{} CPU-s .* ours takes {}x less CPU .* loss 6.\d+",
        ),
    ),
    "tiny": Small(
        "--tokens 2000 --repeats 1",
        (r"whole process, CPU: plain {} s \| ours {} s \| {}x",),
        at_most=(("loss differs by ", 1e-5),),
    ),
    "backlog": Small(
        "--checkpoints 1 --tokens 1000",
        (r"1 checkpoints: plain {} s {} CPU-s \| ours {} s {} CPU-s \| {}x wall, {}x CPU .*",),
        at_most=(("losses differ by ", 1e-5),),
    ),
    "tokenise": Small(
        "--megabytes 1 --tokenizer made", (r"1 MB, {} tokens: plain {} s {} MB \| ours cold {} s, warm {} s, {} MB",)
    ),
    "loading": Small(
        "--layers 1 --rounds 1 --vocab-size 512",
        (
            r"file {} MB, model {} MB, torch .*",
            r"load, ours \(model, CRC checked\) +median +{} ms, .*",
            r"peak, torch.load +{} MB",
        ),
    ),
    "exactness": Small(
        "--steps 2 --ranks 1 2 --windows 2 --held-out 600",
        (
            r"float32: 22 ways, spread .* relative; ranks \[1, 2\] bitwise equal",
            r"bfloat16 on a byte model .*: {} nats, .*",
        ),
        at_most=(("spread ", 1e-6), ("off by ", 2e-3)),
    ),
    "lanes": Small("--repeats 1 --sizes tiny --tokens 2000", (r"tiny: side by side {} CPU-s .* bits equal",)),
    "scaling": Small(
        "--tokens 1025 --ranks 1 --strides 512 --lengths", (r"1 ranks +{} s +{} tokens/s, loss {}", r"stride 512 .*")
    ),
    "scale": Small(
        "--results 1000 --queued 100 --runs 10 --files 50 --repeat 2",
        (
            r"filled with 1,000 results and 100 queued jobs in {} s; {} MB, 20 steps on each curve",
            r"claim +{} ms median, +{} ms at most, of 2",
            r"dashboard: queue page .*",
            r"scan of 50 files .*; 50 match",
        ),
    ),
    "page": Small(
        "--results 1000 --runs 4 --repeat 1 --zooms 2",
        (
            r"overview, nothing new, 1 times, median ms: first byte {} .* paint {} .* panel {} .*",
            r"2 zooms with 4 runs shown: .*",
        ),
    ),
    "simulate": Small(
        "--runs 4 --hours 8 --evaluation-s 300 --devices 1",
        (
            r"# simulate: .*: 2.00 devices' worth of work",
            r"\| 1 \| 200% \| newest \| .*",
            r"\| 1 \| 200% \| fill \| .*",
        ),
    ),
    "startup": Small(
        "--repeats 1",
        (r"ckptwatch status +{} s +{} CPU-s  x {}, {}", r"ckptwatch eval +{} s .*", r"eval beyond importing .*"),
    ),
    "tasks": Small(
        "--items 2 --layers 1 --batches",
        (r"ours +{} items per CPU-s, {} GB \| ours is 1.00x \| other choice on 0 items", r"nanogpt-loop .* on 0 items"),
    ),
    "scan": Small("--files 50", (r"first scan of 50 files: {} s CPU, .*", r"steady scan: {} s CPU, .*")),
    "idle": Small("--files 50 --seconds 1", (r"idle beside 50 files: {} MB resident; {} % of a core over 1 s",)),
    "burst": Small("--files 20 --events 0", (r"the first scan after that saw 20; .*",), exact=(("missed = ", 0),)),
    "rescue": Small(
        "--rounds 1 --queued 3", (r"1 kills, {} jobs in hand, 3 more waiting: .*",), exact=(("charged: ", 0),)
    ),
}


def test_every_benchmark_has_a_small_run():
    assert set(SMALL) == set(BENCHES)


@pytest.mark.bench
@pytest.mark.timeout(900)  # some start ten processes that import torch
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_runs_small_and_prints_values_that_are_right(name):
    if name == "page" and chromium() is None:
        pytest.skip("no Chromium is installed (apt-get install chromium)")
    small = SMALL[name]
    command = [sys.executable, "-m", "bench", name, *small.flags.split()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"# {name}: ")
    for pattern in small.expected:
        expression = re.compile(pattern.replace("{}", NUMBER))
        assert any(expression.fullmatch(line) for line in lines), (pattern, done.stdout)
    for text, value in small.exact:
        assert after(text, done.stdout) == value
    for text, bound in small.at_most:
        assert after(text, done.stdout) <= bound


def after(text: str, printed: str) -> float:
    match = re.search(re.escape(text) + NUMBER, printed)
    assert match is not None, (text, printed)
    return float(match[1].replace(",", ""))
