"""Every verb: its --help has an example, and whatever prints has --json."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import watcher.cli
from watcher.cli import VERBS
from watcher.cli.summaries import SUMMARIES

FOLDER = Path(watcher.cli.__file__).parent
#: Verbs that print no rows: they start something, write a script for a shell, or hand over an order.
WITHOUT_JSON = {
    "serve",
    "completion",
    "demo",
    "queue retry",
    "queue cancel",
    "queue bump",
    "queue pause",
    "queue resume",
}


def commands() -> Iterator[tuple[str, click.Command]]:
    for verb, module in VERBS.items():
        if not (FOLDER / f"{module}.py").exists():
            continue
        command = importlib.import_module(f"watcher.cli.{module}").command
        yield verb, command
        if isinstance(command, click.Group):
            yield from ((f"{verb} {name}", inner) for name, inner in command.commands.items())


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_help_says_what_it_does_and_gives_an_example(ckptwatch, name):
    said = ckptwatch(*name.split(), "--help")
    assert said.status == 0
    assert "Example" in said.out
    assert "ckptwatch" in said.out.split("Example")[1]
    assert ALL[name].help


@pytest.mark.parametrize(
    "name",
    [n for n, c in ALL.items() if not isinstance(c, click.Group) and n not in WITHOUT_JSON and "service" not in n],
)
def test_what_prints_has_json(name):
    assert "--json" in [option for parameter in ALL[name].params for option in parameter.opts]


def test_the_list_of_verbs_shows_the_first_sentence_of_each_verbs_own_help():
    of_verbs = {verb: ALL[verb].help.split("\n\n")[0].replace("\n", " ") for verb in VERBS}
    assert set(SUMMARIES) == set(VERBS)
    for verb, summary in SUMMARIES.items():
        assert of_verbs[verb].startswith(summary.removesuffix(" ..."))
        assert summary.endswith(" ...") or of_verbs[verb] == summary


def test_an_unknown_verb_and_an_unknown_flag_get_the_nearest(ckptwatch):
    said = ckptwatch("resluts")
    assert said.status == 2
    assert "ckptwatch results" in said.err
    said = ckptwatch("results", "--bset")
    assert said.status == 2
    assert "--best" in said.err
