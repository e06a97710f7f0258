"""`ckptwatch init`: look at a folder and data, write a commented ckptwatch.toml, show what was found."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from watcher.cli.options import Globals, examples, json_option, print_json, say
from watcher.errors import EnvironmentProblem, NothingFound, UsageError


@click.command("init", epilog=examples("ckptwatch init checkpoints --data val.npy", "ckptwatch init out --yes --force"))
@click.argument("folder", required=False, default=".", metavar="[DIR]")
@click.option("--data", multiple=True, metavar="PATH", help="Validation data.  [default: what is named val* nearby]")
@click.option("--force", is_flag=True, help="Overwrite a settings file that is there.")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@json_option
@click.pass_obj
def command(flags: Globals, folder: str, data: tuple[str, ...], force: bool, yes: bool, as_json: bool) -> None:
    """Write ckptwatch.toml for a folder and its data.

    Looks at the folder DIR in which a trainer saves, and at data; shows what it found; writes ./ckptwatch.toml, or the
    file of -c.
    """
    from watcher.settings.load import load_settings
    from watcher.settings.schema import DEFAULT_FILE
    from watcher.setup.discover import compose, data_nearby, look_at

    out = Path(flags.config_file or DEFAULT_FILE)
    if out.exists() and not force:
        raise UsageError(
            f"{out} is there already; it was left as it is", hint="--force overwrites it; -c FILE names another"
        )
    survey = look_at(Path(folder))
    given = [Path(path) for path in data]
    if absent := [path for path in given if not path.is_file()]:
        raise NothingFound(f"there is no data file {absent[0]}", hint="ckptwatch data sniff PATH tells what a file is")
    chosen = given or data_nearby([Path(), Path("data"), Path(folder), Path(folder).absolute().parent])[:1]
    sniffed = _sniff(chosen)
    text = compose(survey, chosen, out.absolute().parent, {path: one["kind"] for path, one in sniffed.items()})
    if not as_json:
        _show(survey, chosen, sniffed)
    if not yes and sys.stdin.isatty() and not click.confirm(f"Write {out}?", default=True, err=True):
        say("nothing was written")
        return
    _write(out, text)
    load_settings(out)
    if as_json:
        print_json(_plain(out, survey, chosen, sniffed))
        return
    say(f"written: {out}")
    next_ = "ckptwatch run" if chosen else f"name your validation data under [[eval]] in {out}, then `ckptwatch run`"
    say(f"  next:  {next_}        (what would be done: ckptwatch run --dry-run)")


def _sniff(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """What the data files are, as far as that can be told here; without numpy the file is written all the same."""
    from watcher.cli.showing import ProgressLine
    from watcher.launch.datafiles import ask

    if not paths:
        return {}
    try:
        with ProgressLine() as line:
            found = ask("sniff", [str(path) for path in paths], [], tell=line)
            return {str(path): one for path, one in zip(paths, found, strict=True)}
    except EnvironmentProblem as problem:
        say(f"note: the data was not looked at: {problem.cause}")
        return {}


def _write(out: Path, text: str) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise EnvironmentProblem(
            f"{out} cannot be written: {error.strerror}", hint="-c FILE names another place"
        ) from None


def _plain(out: Path, survey: Any, data: list[Path], sniffed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from dataclasses import asdict

    found = asdict(survey) | {"dir": str(survey.dir), "include": list(survey.include)}
    return {"file": str(out), "found": found, "data": [sniffed.get(str(path), {"path": str(path)}) for path in data]}


def _show(survey: Any, data: list[Path], sniffed: dict[str, dict[str, Any]]) -> None:
    from watcher.domain.checkpoint import printable
    from watcher.report.format import size

    where = printable(str(survey.dir))
    say(
        f"{where}: {survey.files} checkpoint(s), {size(survey.bytes)}"
        + (" in subfolders" if "**" in survey.include[0] else "")
    )
    for why, count in survey.ignored.items():
        say(f"  {count} left aside: {why}")
    if survey.readable is not None:
        one = survey.readable
        step = f"step {one['step']} ({one['step_source']})" if one["step"] is not None else "no step"
        say(
            f"  newest readable: {printable(one['checkpoint'])}: {one['family']}, "
            f"{one['parameters']:,} parameters, {step}"
        )
        if one["family"] == "unknown":
            say("  its family is not known: give [model] factory, or see `ckptwatch inspect`")
    if survey.trouble:
        say(f"  {printable(survey.trouble)}")
    for path in data:
        one = sniffed.get(str(path))
        words = f"{one['label']}, {size(one['bytes'])}" if one else "not looked at"
        words += f", {one['tokens']:,} tokens" if one and one["tokens"] is not None else ""
        say(f"{printable(str(path))}: {printable(words)}")
        for problem in one["problems"] if one else ():
            say(f"  problem: {printable(problem)}")
    if not data:
        say("no validation data was found nearby: name it with --data")
