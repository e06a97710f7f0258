"""`ckptwatch demo`: a small GPT trains for a minute while the daemon evaluates its checkpoints."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from watcher.cli.options import Globals, say
from watcher.errors import CkptwatchError, UsageError

if TYPE_CHECKING:
    from watcher.settings.schema import Settings

MARK = ".ckptwatch-demo"


@click.command("demo", epilog="Example:  ckptwatch demo --steps 120")
@click.option("--dir", "folder", default="ckptwatch-demo", show_default=True, metavar="DIR", help="Working directory.")
@click.option("--steps", type=click.IntRange(1), default=240, show_default=True, help="Training steps.")
@click.option("--save-every", type=click.IntRange(1), default=30, show_default=True, help="Steps between checkpoints.")
@click.pass_obj
def command(flags: Globals, folder: str, steps: int, save_every: int) -> None:
    """Train a small GPT and evaluate its checkpoints meanwhile: about 90 seconds, no data or GPU needed."""
    import evalcore
    from watcher.cli import main
    from watcher.daemon import Daemon
    from watcher.launch.trainer import DemoTrainer
    from watcher.log import Log
    from watcher.state.folder import StateFolder

    root = Path(folder).absolute()
    _empty(root)
    texts = Path(evalcore.__file__).parent / "demo"
    checkpoints, database = root / "checkpoints", os.fspath(root / "results.db")
    checkpoints.mkdir()
    settings = _settings(checkpoints, texts / "val.txt", database)
    say(f"A GPT of 0.6 M parameters trains in a separate process and saves to {checkpoints}")
    say("in place, not atomically, and keeps its last two files. ckptwatch evaluates them meanwhile.\n")
    trainer = DemoTrainer(texts / "train.txt", checkpoints, steps, save_every)
    ended_s: list[float] = []

    def finished(daemon: Daemon) -> bool:
        if trainer.ended() is None:
            return False
        if not ended_s:
            ended_s.append(time.monotonic())
            daemon.scan_soon()
        return daemon.scanned_since(ended_s[0]) and daemon.settled_down()

    try:
        daemon = Daemon.boot(settings, database, StateFolder.beside(database), Log(1 + flags.verbose))
        daemon.run(finished)
    finally:
        trainer.stop()
    if daemon.signals.stops:
        raise click.exceptions.Exit(130)
    if trainer.ended():
        raise CkptwatchError("the demo's trainer failed", hint="see its error above; ckptwatch doctor")
    for verb in (["results", "--db", database], ["plot", "--db", database]):
        say("")
        main(verb)
    say(f"\nThe results are in {database}:")
    say(f"  sqlite3 {database} 'SELECT step, loss, ppl FROM results ORDER BY step'")
    say("Next, your own run:  ckptwatch run --dir YOUR_CHECKPOINTS --data YOUR_VALIDATION_SET")


def _settings(checkpoints: Path, text: Path, database: str) -> Settings:
    from watcher.settings.load import load_settings

    return load_settings(
        None,
        {
            "run": [{"name": "minigpt", "dir": os.fspath(checkpoints), "settle_s": 1.0, "scan_s": 5.0}],
            "eval": [{"name": "val", "data": [os.fspath(text)], "tokenizer": "bytes", "seq_len": 128}],
            "launch": {"device": "cpu", "linger_s": 6.0, "threads": 1},
            "store": {"url": database},
        },
    )


def _empty(root: Path) -> None:
    """Recreate a folder that an earlier demo made; refuse any other folder that is not empty."""
    if root.exists():
        if not (root / MARK).exists() and any(root.iterdir()):
            raise UsageError(f"{root} is not empty and was not made by the demo", hint="ckptwatch demo --dir ANOTHER")
        shutil.rmtree(root)
    root.mkdir(parents=True)
    (root / MARK).touch()
