"""From a `[[sink]]` section to the sink: default paths, and the sink's module, imported only when it is used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from watcher.errors import ConfigError
from watcher.settings.schema import SinkSettings
from watcher.sinks.protocol import Sink

FILE_NAMES = {
    "jsonl": "results.jsonl",
    "csv": "results.csv",
    "parquet": "results.parquet",
    "prometheus": "ckptwatch.prom",
}


def named(sections: Iterable[SinkSettings]) -> dict[str, SinkSettings]:
    """Name in the outbox -> section; the kind is the name where none is given. Raises ConfigError for a name twice."""
    by_name: dict[str, SinkSettings] = {}
    for section in sections:
        name = section.name or section.kind
        if name in by_name:
            raise ConfigError(f"two [[sink]] sections are named {name!r}", hint="give one of them a `name`")
        by_name[name] = section
    return by_name


def make_sink(name: str, section: SinkSettings, folder: Path) -> Sink:
    """folder: this sink's own in the state folder; files go there too unless `path` says otherwise.

    Raises EnvironmentProblem, naming the extra, where the library is missing.
    """
    kind = section.kind
    path = section.path or folder / FILE_NAMES.get(kind, kind)
    if path.is_dir() and kind in FILE_NAMES:
        path = path / FILE_NAMES[kind]
    if kind == "jsonl":
        from watcher.sinks.files import JsonLines

        return JsonLines(name, path)
    if kind == "csv":
        from watcher.sinks.files import Csv

        return Csv(name, path)
    if kind == "parquet":
        from watcher.sinks.parquet import Parquet

        return Parquet(name, path)
    if kind == "prometheus":
        from watcher.sinks.prometheus import PrometheusFile

        return PrometheusFile(name, path, folder / "cells.json")
    if kind == "tensorboard":
        from watcher.sinks.tensorboard import TensorBoard

        return TensorBoard(name, path)
    if kind == "mlflow":
        from watcher.sinks.mlflow import Mlflow

        return Mlflow(name, section.url or (f"sqlite:///{section.path}" if section.path else None), section.project)
    if kind == "wandb":
        from watcher.sinks.wandb import Wandb

        return Wandb(name, path, section.project, section.entity, section.mode)
    from watcher.sinks.trackio import Trackio

    return Trackio(name, section.project, section.path, section.url)
