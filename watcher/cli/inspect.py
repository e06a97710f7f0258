"""`ckptwatch inspect`: a checkpoint's metadata, read as inert data, without torch."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from typing import Any

import click

from watcher.cli.options import examples, json_option, print_json
from watcher.errors import CheckpointUnreadable, NothingFound

SHOWN_TENSORS = 12


@click.command("inspect", epilog=examples("ckptwatch inspect ckpt.pt", "ckptwatch inspect ckpt.pt --json | jq .config"))
@click.argument("checkpoint", metavar="CKPT")
@click.option("--state", metavar="NAME", help="State dict to show: model, ema, ...")
@click.option("--all", "every", is_flag=True, help="Show every tensor.")
@json_option
def command(checkpoint: str, state: str | None, every: bool, as_json: bool) -> None:
    """Show a checkpoint's metadata: step, configuration, tensors.

    Nothing in the file is executed; no weights are read.
    """
    facts = describe(checkpoint, state)
    if as_json:
        print_json(facts)
    else:
        _show(facts, every)


def describe(path: str, state: str | None = None) -> dict[str, Any]:
    """The object of `inspect --json`. Raises NothingFound or CheckpointUnreadable."""
    from evalcore.archive import ArchiveError, summarise
    from watcher.detect.nearest import hint_where_absent
    from watcher.domain.checkpoint import printable
    from watcher.domain.step import Step, choose_step, step_from_name

    shown = printable(path)
    try:
        summary = summarise(path, state=state)
    except FileNotFoundError:
        hint = hint_where_absent(path, "ckptwatch inspect {}")
        raise NothingFound(f"there is no checkpoint at {shown}", hint=hint) from None
    except ArchiveError as error:
        hint = (
            error.hint
            or "ckptwatch inspect reads checkpoint files and Hugging Face, DCP, litgpt, OLMo and DeepSpeed folders"
        )
        raise CheckpointUnreadable(f"{shown}: {error.kind}: {error.reason}", hint=hint) from None
    except OSError as error:
        hint = f"ls -l {shlex.quote(path)}"
        raise CheckpointUnreadable(f"{shown} cannot be read: {error.strerror}", hint=hint) from None
    facts = asdict(summary)
    payload = Step(summary.step, summary.step_source or "")
    step = choose_step(payload, step_from_name(os.path.basename(os.path.abspath(path))), summary.width)
    facts |= {"path": path, "step": step.value, "step_source": step.source or None}
    facts["tensors"] = [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in summary.tensors]
    first = ("path", "format", "family", "step", "step_source", "config", "parameters")
    return {key: facts[key] for key in (*first, *(key for key in facts if key not in first))}


def _show(facts: dict[str, Any], every: bool) -> None:
    from watcher.cli.showing import print_table
    from watcher.domain.checkpoint import printable
    from watcher.report.columns import Column, text_column
    from watcher.report.format import integer, size
    from watcher.report.tables import as_facts

    source = f"  ({facts['step_source']})" if facts["step_source"] else ""
    fields: dict[str, Any] = {
        "path": facts["path"],
        "format": facts["format"] + (" (no checksums)" if facts["unverified"] else ""),
        "family": facts["family"] + (f", saved by {facts['trainer']}" if facts["trainer"] else ""),
        "size": size(facts["size_bytes"]),
        "step": integer(facts["step"]) + source,
        "parameters": f"{facts['parameters']:,}",
        "states": ", ".join(facts["states"]),
        "logged loss": facts["logged_val_loss"],
        "tokens seen": facts["tokens_seen"],
        "config from": facts["config_source"],
        "note": facts["note"],
        "digest": facts["digest"],
    }
    click.echo(as_facts({key: printable(str(value)) for key, value in fields.items() if value not in (None, "")}))
    if facts["config"]:
        click.echo("config")
        click.echo(as_facts({key: printable(str(value))[:200] for key, value in facts["config"].items()}, "  "))
    tensors = facts["tensors"] if every else facts["tensors"][:SHOWN_TENSORS]
    if tensors:
        click.echo()
        shape = Column("shape", lambda row: " x ".join(map(str, row["shape"])) or "scalar")
        print_table([text_column("name", "tensor"), text_column("dtype"), shape], tensors)
    if len(tensors) < len(facts["tensors"]):
        click.echo(f"... and {len(facts['tensors']) - len(tensors)} more (--all shows them)")
