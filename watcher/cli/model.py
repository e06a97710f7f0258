"""`ckptwatch model`: try a model factory on a checkpoint, with the traceback of the user's own code."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from watcher.cli.options import Globals, examples, json_option


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
    return run_core_module("evalcore.loading.factory_trial", [*arguments, *more], python, settings.launch.env)
