"""`ckptwatch init`: discover checkpoints and validation data, write a commented ckptwatch.toml."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from watcher.cli.options import Globals, examples, json_option, print_json, say
from watcher.errors import EnvironmentProblem, NothingFound, UsageError


@click.command("init", epilog=examples("ckptwatch init checkpoints --data val.npy", "ckptwatch init out --yes --force"))
@click.argument("folder", required=False, default=".", metavar="[DIR]")
@click.option(
    "--data", multiple=True, metavar="PATH", help="Validation data; repeatable.  [default: a val* file nearby]"
)
@click.option("--force", is_flag=True, help="Overwrite an existing settings file.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@click.pass_obj
def command(flags: Globals, folder: str, data: tuple[str, ...], force: bool, yes: bool, as_json: bool) -> None:
    """Write ckptwatch.toml for a folder and its data.

    Reads the folder DIR in which a trainer saves its checkpoints, and the data; prints what it found; writes
    ./ckptwatch.toml, or the file given by -c. Where several trainings save below DIR, each becomes a run.
    """
    from watcher.settings.load import load_settings
    from watcher.settings.paths import plain_path
    from watcher.settings.schema import DEFAULT_FILE
    from watcher.setup.discover import data_nearby, look_at, usual_places
    from watcher.setup.first_settings import compose

    out = Path(flags.config_file or DEFAULT_FILE)
    if out.exists() and not force:
        raise UsageError(f"{out} exists and was not changed", hint="--force overwrites it; -c FILE writes another file")
    folder = plain_path(folder) if ".." in Path(folder).parts else folder
    discovery = look_at(Path(folder))
    given = [Path(path) for path in data]
    if absent := [path for path in given if not path.is_file()]:
        raise NothingFound(f"there is no data file {absent[0]}", hint="ckptwatch data sniff PATH shows what a file is")
    chosen = given or data_nearby(usual_places(Path(folder)))[:1]
    sniffed = _sniff(chosen)
    text = compose(discovery, chosen, out.absolute().parent, {path: facts["kind"] for path, facts in sniffed.items()})
    if not as_json:
        _show(discovery, chosen, sniffed)
    if not yes and sys.stdin.isatty() and not click.confirm(f"Write {out}?", default=True, err=True):
        say("nothing was written")
        return
    _write(out, text)
    load_settings(out)
    if as_json:
        print_json(_plain(out, discovery, chosen, sniffed))
        return
    say(f"written: {out}")
    run = "ckptwatch run" if flags.config_file is None else f"ckptwatch run -c {shlex.quote(str(out))}"
    next_ = run if chosen else f"set `data` under [[eval]] in {out}, then `{run}`"
    say(f"  next:  {next_}        (preview: {run} --dry-run)")


def _sniff(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Format and size of the data files; empty, with a note, where they cannot be read here."""
    from watcher.cli.showing import ProgressLine
    from watcher.launch.datafiles import run_data_command

    if not paths:
        return {}
    try:
        with ProgressLine() as line:
            answers = run_data_command("sniff", [str(path) for path in paths], [], report_progress=line)
            return {str(path): answer for path, answer in zip(paths, answers, strict=True)}
    except EnvironmentProblem as problem:
        say(f"note: the data was not read: {problem.cause}")
        return {}


def _write(out: Path, text: str) -> None:
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as error:
        raise EnvironmentProblem(
            f"{out} cannot be written: {error.strerror}", hint="-c FILE writes another file"
        ) from None


def _plain(out: Path, discovery: Any, data: list[Path], sniffed: dict[str, dict[str, Any]]) -> dict[str, Any]:
    from dataclasses import asdict

    from watcher.setup.first_settings import run_names_of

    facts = asdict(discovery) | {"dir": str(discovery.dir), "include": list(discovery.include)}
    names = run_names_of(discovery.trainings)
    facts["trainings"] = [
        {"name": name, "dir": str(training.dir), "include": list(training.include), "files": training.files}
        for name, training in zip(names, discovery.trainings, strict=True)
    ]
    return {"file": str(out), "found": facts, "data": [sniffed.get(str(path), {"path": str(path)}) for path in data]}


def _show(discovery: Any, data: list[Path], sniffed: dict[str, dict[str, Any]]) -> None:
    from watcher.domain.checkpoint import printable
    from watcher.domain.passed_by import ignored_words
    from watcher.report.format import size
    from watcher.settings.template import toml_value
    from watcher.setup.first_settings import run_names_of

    where = printable(str(discovery.dir))
    say(
        f"{where}: {discovery.files} checkpoint(s), {size(discovery.bytes)}"
        + (" in subfolders" if "**" in discovery.include[0] else "")
    )
    if len(discovery.trainings) > 1:
        names = run_names_of(discovery.trainings)
        listed = ", ".join(map(printable, names[:8])) + ", ..." * (len(names) > 8)
        say(f"  {len(names)} trainings, a [[run]] for each: {listed}")
        say("  if they are one training with one curve, write a single [[run]] instead:")
        say(f"  dir = {toml_value(os.fspath(discovery.dir))}, include = {toml_value(discovery.include)}")
    for words in ignored_words(discovery.ignored):
        say(f"  {words}")
    if discovery.readable is not None:
        newest = discovery.readable
        step = f"step {newest['step']} ({newest['step_source']})" if newest["step"] is not None else "no step"
        say(
            f"  newest readable: {printable(newest['checkpoint'])}: {newest['family']}, "
            f"{newest['parameters']:,} parameters, {step}"
        )
        if newest["family"] == "unknown":
            say("  unknown model family: set [model] factory, or see `ckptwatch inspect`")
    if discovery.trouble:
        say(f"  {printable(discovery.trouble)}")
    for path in data:
        facts = sniffed.get(str(path))
        words = f"{facts['label']}, {size(facts['bytes'])}" if facts else "not read"
        words += f", {facts['tokens']:,} tokens" if facts and facts["tokens"] is not None else ""
        say(f"{printable(str(path))}: {printable(words)}")
        for problem in facts["problems"] if facts else ():
            say(f"  problem: {printable(problem)}")
    if not data:
        say("no validation data found nearby: give --data FILE")
