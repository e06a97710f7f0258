"""What a command costs before it prints: list verbs beside `python -c pass` and sqlalchemy, `eval` beside torch."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench import files
from bench.processes import Ran, machine, python
from tests.support.database import small_run

#: `status` ends with 10 where no daemon runs; that is no failure here.
MAIN = "import sys; from watcher.cli import main; main(sys.argv[1:])"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--repeats", type=int, default=5)


def run(options: argparse.Namespace) -> None:
    print(f"# startup: {machine()}; the fastest of {options.repeats} warm runs")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        database = str(folder / "results.db")
        small_run(Path(database)).close()
        evaluated = str(folder / "eval.db")
        tiny = str(files.checkpoint(folder, files.TINY))
        data = str(files.tokens(folder, 2_000, files.TINY["vocab_size"]))
        verbs = {
            "--help": ["--help"],
            "--version": ["--version"],
            "results": ["results", "--db", database],
            "status": ["status", "--db", database],
            "queue list": ["queue", "list", "--db", database],
        }
        nothing = fastest(options.repeats, "-c", "pass")
        sqlalchemy = fastest(options.repeats, "-c", "import sqlalchemy")
        show("python -c pass", nothing)
        show("import sqlalchemy", sqlalchemy, nothing)
        for verb, arguments in verbs.items():
            show(f"ckptwatch {verb}", fastest(options.repeats, "-c", MAIN, *arguments), nothing, sqlalchemy)
        repeats = max(1, options.repeats // 2)
        torch = fastest(repeats, "-c", "import torch")
        show("import torch", torch, nothing)
        call = ("eval", tiny, "--data", data, "--device", "cpu", "--db", evaluated)
        runs = [python("-c", MAIN, *call, env=forget(evaluated)) for _ in range(repeats)]
        own = min(runs, key=lambda one: one.cpu_s)
        show("ckptwatch eval", own, nothing)
        wall_s, cpu_s = own.wall_s - torch.wall_s, own.cpu_s - torch.cpu_s
        print(f"eval beyond importing torch once: {wall_s:.2f} s, {cpu_s:.2f} CPU-s")


def forget(database: str) -> dict[str, str]:
    """Remove the database, so that the next `eval` measures; no further variables."""
    Path(database).unlink(missing_ok=True)
    return {}


def fastest(repeats: int, *arguments: str) -> Ran:
    """The run with the least CPU time, after one that fills the caches."""
    python(*arguments)
    return min((python(*arguments) for _ in range(repeats)), key=lambda one: one.cpu_s)


def show(what: str, ran: Ran, *beside: Ran) -> None:
    ratios = ", ".join(f"{ran.cpu_s / other.cpu_s:.1f}" for other in beside)
    print(f"{what:<22} {ran.wall_s:.2f} s  {ran.cpu_s:.2f} CPU-s" + (f"  x {ratios}" if ratios else ""))
