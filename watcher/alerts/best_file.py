"""The link to, or copy of, the best checkpoint of one run and eval set. Never compares losses of two curves."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evalcore.archive import version_of
from evalcore.launch_folder import write_atomically
from watcher.domain.metrics import METRICS, Metric
from watcher.errors import DeliveryError
from watcher.settings.schema import AlertSettings

Event = dict[str, Any]
Curve = dict[str, Any]  # run, eval_set, eval_digest


def keep_best(alert: AlertSettings, event: Event, memory: Path) -> None:
    """Point the link at (or copy) the checkpoint, by temporary name and rename. A worse result that comes late is left.

    memory: a folder; its best.json has the curve and the value that each link or copy stands for. Raises DeliveryError.
    """
    record = memory / "best.json"
    kept = _read(record)
    actions: tuple[tuple[Path | None, Callable], ...] = ((alert.best_link, os.symlink), (alert.best_copy, _copy))
    for template, make in actions:
        if template is None:
            continue
        target = _path_for(template, event)
        if not _is_better(event, target, kept.get(os.fspath(target))):
            continue
        source = Path(event["source"])
        _refuse_changed(source, event["size_bytes"], event["mtime_ns"])
        _refuse_inside(target, Path(event["dir"]), alert.inside_dir)
        _replace(target, source, make)
        kept[os.fspath(target)] = {
            **_curve(event),
            "metric": _metric(event).key,
            "value": _metric(event).value_of(event["result"]),
            "loss": event["result"]["loss"],
            "checkpoint": event["checkpoint"],
            "step": event["step"],
        }
        write_atomically(record, json.dumps(kept))


def _curve(event: Event) -> Curve:
    return {
        "run": event["run"],
        "eval_set": event["eval_set"],
        "eval_digest": event["result"].get("eval_digest"),
    }


def _path_for(template: Path, event: Event) -> Path:
    """`{run}` and `{eval_set}` in the path are replaced; a name gives one path component."""
    text = os.fspath(template)
    for key in ("run", "eval_set"):
        text = text.replace(f"{{{key}}}", str(event[key]).replace("/", "_"))
    return Path(text)


def _is_better(event: Event, target: Path, kept: dict[str, Any] | None) -> bool:
    """Raises DeliveryError where the target stands for another run or set."""
    if kept is None:
        return True
    curve = _curve(event)
    for key, words in (("run", "{run}"), ("eval_set", "{eval_set}")):
        if kept[key] != curve[key]:
            remedy = f"put {words} into the path" + (" or name one set with eval_set" if key == "eval_set" else "")
            raise DeliveryError(
                f"{target} is the best checkpoint of run {kept['run']} on {kept['eval_set']}; losses of run "
                f"{curve['run']} on {curve['eval_set']} are not comparable with it",
                hint=f"in [[alert]], {remedy}",
            )
    metric = _metric(event)
    if kept["eval_digest"] != curve["eval_digest"] or kept.get("metric", "loss") != metric.key:
        return True
    value, known = metric.value_of(event["result"]), kept.get("value", kept["loss"])
    return value is not None and (known is None or metric.better(value, known))


def _metric(event: Event) -> Metric:
    return METRICS[event.get("metric") or "loss"]


def _replace(target: Path, source: Path, make: Callable[[Path, Path], Any]) -> None:
    temporary, former = (target.with_name(f".{target.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        make(source, temporary)
        if target.is_dir() and not target.is_symlink():  # no rename replaces a folder
            os.rename(target, former)
        os.replace(temporary, target)
        _remove(former)
    except OSError as error:
        _remove(temporary)
        raise DeliveryError(f"{target} cannot be made from {source}: {error.strerror}") from None


def _refuse_changed(source: Path, size_bytes: int, mtime_ns: int) -> None:
    """The file must still be the version that was evaluated."""
    try:
        version = version_of(os.fspath(source))[:2]
    except OSError as error:
        raise DeliveryError(f"the best checkpoint {source} is gone: {error.strerror}") from None
    if version != (size_bytes, mtime_ns):
        raise DeliveryError(f"the best checkpoint {source} was overwritten since it was evaluated")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
        return
    shutil.copyfile(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def _refuse_inside(target: Path, watched: Path, allowed: bool) -> None:
    inside = target.parent.resolve().is_relative_to(watched.resolve())
    if inside and not allowed:
        raise DeliveryError(
            f"{target} is in the watched folder {watched}; set inside_dir = true in [[alert]] to allow it"
        )


def _read(path: Path) -> dict[str, Any]:
    """Target -> what it stands for. Empty where there is no record, or one of 0.1.0, which did not name the curve."""
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return {target: entry for target, entry in kept.items() if isinstance(entry, dict) and "run" in entry}
