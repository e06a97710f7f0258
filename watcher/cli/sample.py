"""`ckptwatch sample`: the texts that a checkpoint generates from prompts, printed and not stored."""

from __future__ import annotations

import json
import os
import shlex
import sys
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.flags import as_settings
from watcher.cli.options import Globals, examples, json_option
from watcher.errors import ConfigError

if TYPE_CHECKING:
    from watcher.settings.schema import Settings

_FOLDER = click.Path(exists=True, file_okay=False)


@click.command(
    "sample",
    epilog=examples(
        'ckptwatch sample out/ckpt.pt --prompt "Once upon a time" --tokenizer gpt2',
        'ckptwatch sample out/checkpoint-500 --prompt "The" --prompt "A" --temperature 0.8 --top-k 200 --seed 1',
    ),
)
@click.argument("checkpoint", metavar="CKPT")
@click.option("--prompt", "prompts", multiple=True, required=True, metavar="TEXT", help="Prompt; repeatable.")
@click.option("--max-new-tokens", type=click.IntRange(1), metavar="N", help="Most tokens to generate.  [default: 64]")
@click.option("--greedy", is_flag=True, help="Take the likeliest token each time.  [default]")
@click.option(
    "--temperature", type=float, metavar="T", help="Draw tokens; divides the logits.  [default: 1 with --top-k]"
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Draw among the K likeliest tokens.")
@click.option("--top-p", type=float, metavar="P", help="Draw among the likeliest tokens that have this probability.")
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Seed of the draws.  [default: 0]")
@click.option(
    "--tokenizer",
    metavar="NAME|FILE|bytes",
    help="Tokenizer of the training.  [default: that of [[sample]], else of [[eval]], else the folder's own]",
)
@click.option("--timeout-s", type=float, metavar="S", help="Seconds for all prompts.  [default: 600]")
@click.option("--device", default="auto", show_default=True, help="Device: cpu, cuda, cuda:N, auto.")
@click.option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]), help="As in `eval`.")
@click.option("--model-factory", metavar="PKG.MOD:FUNC", help="Custom model: factory(config, state).")
@click.option("--python-path", multiple=True, type=_FOLDER, metavar="DIR", help="Folder of the factory; repeatable.")
@click.option("--model-config", metavar="FILE", help="Corrects the checkpoint's configuration (JSON, TOML).")
@click.option("--model-state", metavar="NAME", help="State dict to load: model, ema, ...")
@json_option
@click.pass_obj
def command(
    flags: Globals, checkpoint: str, prompts: tuple[str, ...], greedy: bool, as_json: bool, **given: Any
) -> None:
    """Print the texts that a checkpoint generates.

    Greedy unless --temperature, --top-k or --top-p is given; drawn texts are the same for the same seed. For texts of
    every checkpoint of a run, stored and shown step by step, add a [[sample]] section to the settings file.
    """
    from watcher.launch.foreground import run_in_foreground
    from watcher.settings.eval_sets import resolve_model
    from watcher.settings.load import load_settings

    settings = load_settings(flags.settings_file(), as_settings({"data": (), **_of_the_model(given)}))
    model = resolve_model(settings.model)
    given["tokenizer"] = given["tokenizer"] or _declared_tokenizer(settings)
    arguments = [checkpoint]
    for prompt in prompts:
        arguments.append(f"--prompt={prompt}")
    for name in (
        "max_new_tokens",
        "temperature",
        "top_k",
        "top_p",
        "seed",
        "tokenizer",
        "timeout_s",
        "device",
        "dtype",
    ):
        if given.get(name) is not None:
            arguments.append(f"--{name.replace('_', '-')}={given[name]}")
    arguments += ["--greedy"] if greedy else []
    arguments += ["--json"] if as_json else []
    arguments += [f"--model-factory={model.factory}"] if model.factory else []
    arguments += [f"--model-config={json.dumps(model.config)}"] if model.config else []
    arguments += [f"--model-state={model.state}"] if model.state else []
    for folder in model.python_path:
        arguments.append(f"--python-path={folder}")
    python = os.fspath(settings.launch.python) if settings.launch.python else None
    sys.exit(run_in_foreground("evalcore.sampling", arguments, python))


def _of_the_model(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in ("model_factory", "python_path", "model_config", "model_state")}


def _declared_tokenizer(settings: Settings) -> str | None:
    """The tokenizer that the settings file names for texts, else for its eval sets; None where it names none.

    Raises ConfigError where the file names several.
    """
    from watcher.settings.content import tokenizer_files

    for where, sections in (("sample", settings.sample), ("eval", settings.eval)):
        named = {tokenizer_files(f"[[{where}]] {section.name}", section.tokenizer)[0] for section in sections} - {None}
        if len(named) > 1:
            several = sorted(map(str, named))
            raise ConfigError(
                f"the [[{where}]] sections name several tokenizers: {', '.join(several)}",
                hint=f"say which: --tokenizer {shlex.quote(several[0])}",
            )
        if named:
            return named.pop()
    return None
