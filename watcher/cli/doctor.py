"""`ckptwatch doctor`: checks of this machine, each with its fix."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from watcher.cli.options import Globals, database_url, db_option, json_option, print_json, say
from watcher.errors import EnvironmentProblem

COLOURS = {"ok": "green", "note": "cyan", "warning": "yellow", "problem": "red"}


@click.command("doctor", epilog="Example:  ckptwatch doctor --json")
@json_option
@db_option
@click.pass_obj
def command(flags: Globals, as_json: bool, db: str | None) -> None:
    """Check this machine and print fixes.

    Python, torch, SQLite, file systems, inotify, permissions, clock, disk, GPUs, extras.
    Exit status 7 if a problem prevents ckptwatch from working.
    """
    from watcher.cli.showing import painted, state_folder
    from watcher.domain.checkpoint import printable
    from watcher.settings.load import load_settings
    from watcher.setup.doctor import examine

    settings = load_settings(flags.settings_file())
    findings = examine(settings, database_url(flags, db), state_folder(flags, db), time.time())
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        wide = max(len(finding.check) for finding in findings)
        for finding in findings:
            level = painted(f"{finding.level:<7}", COLOURS[finding.level])
            click.echo(f"{level}  {printable(finding.check):<{wide}}  {printable(finding.words)}")
            if finding.fix:
                click.echo(f"{'':7}  {'':<{wide}}  -> {printable(finding.fix)}")
    problems = [finding for finding in findings if finding.level == "problem"]
    if problems:
        raise EnvironmentProblem(f"{len(problems)} problem(s): {problems[0].words}", hint=problems[0].fix)
    if not as_json:
        say("no problems found")
