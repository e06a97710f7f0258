"""The whole of ckptwatch.toml as typed settings, and the rules between its sections.

The reference page and configs/full.toml are generated from the fields and descriptions of the sections.
"""

from __future__ import annotations

import os

from pydantic import Field, model_validator

from watcher.domain.checkpoint import NamePattern
from watcher.domain.database import DEFAULT_DATABASE, sqlite_file
from watcher.settings.averages import AverageSettings
from watcher.settings.evaluation import EvalSettings, ModelSettings, SuiteSettings
from watcher.settings.launch import LaunchSettings, SlurmSettings
from watcher.settings.names import DEFAULT_FILE
from watcher.settings.outputs import AlertSettings, SinkSettings, StoreSettings, WebSettings
from watcher.settings.run import RunSettings
from watcher.settings.samples import SampleSettings
from watcher.settings.section import Section

__all__ = [
    "DEFAULT_DATABASE",
    "DEFAULT_FILE",
    "AlertSettings",
    "AverageSettings",
    "EvalSettings",
    "LaunchSettings",
    "ModelSettings",
    "RunSettings",
    "SampleSettings",
    "Settings",
    "SinkSettings",
    "SlurmSettings",
    "StoreSettings",
    "SuiteSettings",
    "WebSettings",
]


class Settings(Section):
    """The whole of ckptwatch.toml."""

    run: tuple[RunSettings, ...] = Field((), description="Watched runs.")
    eval: tuple[EvalSettings, ...] = Field((), description="Validation sets.")
    suite: tuple[SuiteSettings, ...] = Field((), description="Suites of tasks.")
    model: ModelSettings = Field(ModelSettings(), description="The model.")
    launch: LaunchSettings = Field(LaunchSettings(), description="The jobs.")
    store: StoreSettings = Field(StoreSettings(), description="The database.")
    web: WebSettings = Field(WebSettings(), description="The dashboard.")
    sink: tuple[SinkSettings, ...] = Field((), description="Trackers and files.")
    alert: tuple[AlertSettings, ...] = Field((), description="Alerts.")
    average: tuple[AverageSettings, ...] = Field((), description="Means of checkpoints.")
    sample: tuple[SampleSettings, ...] = Field((), description="Prompts to generate texts from.")

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the eval sets and suites, in order; empty: there is nothing to evaluate on."""
        return (*(section.name for section in self.eval), *(section.name for section in self.suite))

    @model_validator(mode="after")
    def _names_are_unique(self) -> Settings:
        named = {
            "run": [section.name for section in self.run],
            "eval": [section.name for section in self.eval],
            "suite": [section.name for section in self.suite],
            "sample": [section.name for section in self.sample],
            "sink": [section.name or section.kind for section in self.sink],
        }
        means = [section.spec.name for section in self.average]
        if twice := sorted({name for name in means if means.count(name) > 1}):
            raise ValueError(f"two [[average]] sections ask for {', '.join(twice)}: remove one")
        for kind, names in named.items():
            if twice := sorted({name for name in names if names.count(name) > 1}):
                flag = ", on the command line --data NAME=PATH" if kind == "eval" else ""
                raise ValueError(
                    f"two [[{kind}]] sections are named {', '.join(map(repr, twice))}: give one a `name`{flag}"
                )
        return self

    @model_validator(mode="after")
    def _alerts_can_fire(self) -> Settings:
        for position, alert in enumerate(self.alert):
            best = alert.best_link or alert.best_copy
            if not alert.on:
                raise ValueError(f"alert.{position}: `on` names no event, so it never fires")
            if not (alert.command or alert.webhook or alert.apprise or best):
                raise ValueError(
                    f"alert.{position}: it notifies nothing; set command, webhook, apprise, best_link or best_copy"
                )
            if best and "best" not in alert.on:
                raise ValueError(f'alert.{position}: best_link and best_copy need "best" in `on`')
        return self

    @model_validator(mode="after")
    def _state_is_not_watched(self) -> Settings:
        """Copies in the spool would be registered as checkpoints, and a watched folder is never written to."""
        for run in self.run:
            root = os.path.realpath(run.dir)
            if self.store.state_dir is not None and _inside(os.path.realpath(self.store.state_dir), root):
                raise ValueError(f"store.state_dir {self.store.state_dir} is inside {run.dir}, which is watched")
            url = self.store.url
            if url == DEFAULT_DATABASE or self.store.state_dir is not None:
                continue  # the default moves out of a watched folder by itself
            if (file := sqlite_file(url)) is None:
                continue
            state = os.path.realpath(file) + ".state"
            spool, pattern = os.path.relpath(os.path.join(state, "spool"), root), NamePattern(run.include, run.exclude)
            of_files = pattern.matches(f"{spool}/copy.pt")
            if _inside(state, root) and (of_files or pattern.why_folder_ignored(f"{spool}/1-copy") is None):
                raise ValueError(
                    f"the state folder {state} is inside {run.dir}, and `include` of run {run.name!r} matches its "
                    f"copies of checkpoints: set store.state_dir or store.url to a place outside"
                )
        return self

    @model_validator(mode="after")
    def _best_belongs_to_one_curve(self) -> Settings:
        """Losses of different runs or sets are not comparable, so one link cannot follow several of them."""
        for alert in self.alert:
            for key, path in (("best_link", alert.best_link), ("best_copy", alert.best_copy)):
                if path is not None and len(self.run) > 1 and "{run}" not in str(path):
                    raise ValueError(f"[[alert]] {key} = {str(path)!r} with several runs: put {{run}} into the path")
                several = len(self.eval) > 1 or bool(self.suite)
                if path is not None and alert.eval_set is None and several and "{eval_set}" not in str(path):
                    raise ValueError(
                        f"[[alert]] {key} = {str(path)!r} with several eval sets: name one with `eval_set`, or put "
                        "{eval_set} into the path"
                    )
        return self


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
