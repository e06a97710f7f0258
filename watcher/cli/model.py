"""`ckptwatch model`: try a model factory on a checkpoint, with the traceback of the user's own code."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path

import click

from watcher.cli.options import Globals, examples, json_option, say
from watcher.errors import CheckpointUnreadable


@click.group("model", epilog="Example:  ckptwatch model try mymodel:build out/ckpt.pt --python-path src")
def command() -> None:
    """Custom models: try."""


@command.command(
    "try",
    epilog=examples(
        "ckptwatch model try mymodel:build out/ckpt.pt --python-path src",
        "ckptwatch model try mymodel:build out/ckpt.pt --model-config model.json",
    ),
)
@click.argument("factory", metavar="PKG.MOD:FUNC")
@click.argument("checkpoint", metavar="CKPT")
@click.option(
    "--python-path", multiple=True, type=click.Path(exists=True, file_okay=False), metavar="DIR",
    help="Folder to import the factory from; repeatable.  [default: the settings', else the working folder]",
)  # fmt: skip
@click.option(
    "--model-config", type=click.Path(path_type=Path), metavar="FILE",
    help="Corrects or replaces the checkpoint's configuration (JSON, TOML).",
)  # fmt: skip
@click.option("--model-state", metavar="NAME", help="State dict to load: model, ema, ...")
@click.option("--device", default="cpu", show_default=True, help="Device: cpu, cuda, cuda:N.")
@json_option
@click.pass_obj
def try_(
    flags: Globals, factory: str, checkpoint: str, python_path: tuple[str, ...], model_config: Path | None,
    model_state: str | None, device: str, as_json: bool,
) -> int:  # fmt: skip
    """Run a factory on a checkpoint and one forward pass of its model.

    Prints the model's class, size, context length and vocabulary, and whether it is causal. An error in the factory
    or the model prints Python's traceback, beginning at your code. Exit status: 0 it works, 8 it does not.
    """
    from watcher.launch.core_command import run_core_module
    from watcher.settings.eval_sets import resolve_model
    from watcher.settings.load import load_settings

    settings = load_settings(flags.settings_file())
    given = {"config": model_config, "state": model_state, "factory": factory}
    model = settings.model.model_copy(update={key: value for key, value in given.items() if value is not None})
    folders = [os.path.abspath(folder) for folder in python_path] or [os.fspath(folder) for folder in model.python_path]
    config = resolve_model(model).config
    arguments = [checkpoint, "--factory", factory, "--device", device]
    for folder in folders or [os.getcwd()]:
        arguments += ["--python-path", folder]
    arguments += ["--model-config", json.dumps(config)] if config else []
    arguments += ["--model-state", model.state] if model.state else []
    python = os.fspath(settings.launch.python) if settings.launch.python else None
    more = ["--json"] if as_json else []
    with tempfile.TemporaryDirectory(prefix="ckptwatch-") as folder:
        finished = os.path.join(folder, "finished")
        arguments += [*more, "--finished-file", finished]
        status = run_core_module("evalcore.loading.factory_trial", arguments, python, settings.launch.env)
        if status == 0 and not os.path.exists(finished):
            return _ended_early("it exited with status 0")
    return _ended_early(f"it was ended by {_signal_name(-status)}") if status < 0 else status


def _ended_early(how: str) -> int:
    say(f"error: the process ended inside your code: {how}")
    return CheckpointUnreadable.exit_code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
