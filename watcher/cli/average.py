"""`ckptwatch average`: the mean of checkpoints, written as one checkpoint."""

from __future__ import annotations

import sys

import click

from watcher.cli.options import examples, json_option


@click.command(
    "average",
    epilog=examples(
        "ckptwatch average out/ckpt_8000.pt out/ckpt_9000.pt out/ckpt_10000.pt --out mean.pt",
        "ckptwatch average out/ckpt_*.pt --ema 0.9 --out ema.pt",
    ),
)
@click.argument("checkpoints", nargs=-1, required=True, metavar="CKPT CKPT...")
@click.option("--out", required=True, metavar="FILE", help="Where to write the mean.")
@click.option("--ema", type=float, metavar="DECAY", help="Exponential mean by step, the newest weighs most.")
@click.option("--state", metavar="NAME", help="State dict to average: model, ema, ...")
@click.option("--model-config", metavar="FILE", help="JSON object with configuration that the checkpoints lack.")
@click.option("--force", is_flag=True, help="Replace an existing --out.")
@json_option
def command(
    checkpoints: tuple[str, ...],
    out: str,
    ema: float | None,
    state: str | None,
    model_config: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the mean of checkpoints as one checkpoint.

    The tensors are averaged in float32, one at a time; the file holds the model, its configuration and the names of its
    members, and torch.load(weights_only=True) reads it. Checkpoints of different models are refused.
    """
    from watcher.launch.foreground import run_in_foreground

    arguments = ["--out", out, *(["--ema", repr(ema)] if ema is not None else []), *(["--force"] if force else [])]
    arguments += ["--json"] if as_json else []
    arguments += ["--state", state] if state is not None else []
    arguments += ["--model-config", model_config] if model_config is not None else []
    sys.exit(run_in_foreground("evalcore.averaging", [*arguments, "--", *checkpoints]))
