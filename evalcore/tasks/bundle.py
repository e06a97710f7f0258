"""A bundle of tasks: nanochat's `eval_bundle/` with core.yaml, eval_meta_data.csv and the items below eval_data/.

Owns what the two files mean. Standard library only: the settings make eval sets of it. Never reads an item.
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from typing import Any

from evalcore.tasks.spec import LANGUAGE_MODELING, MULTIPLE_CHOICE, SCHEMA, TaskSpec, task_spec

_TASKS, _META, _DATA = "core.yaml", "eval_meta_data.csv", "eval_data"
_KINDS = (MULTIPLE_CHOICE, SCHEMA, LANGUAGE_MODELING)
_USED = ("label", "dataset_uri", "num_fewshot", "icl_task_type", "continuation_delimiter")


class BundleError(ValueError):
    """A bundle that cannot be used: one sentence with file and, where it has one, line."""


@dataclass(frozen=True)
class BundleTask:
    """One member: spec, with its label as name and its random baseline; path of its items, absolute."""

    spec: TaskSpec
    path: str


@dataclass(frozen=True)
class Bundle:
    """name: of the folder. tasks: in the order of core.yaml. files: the two that describe it, absolute."""

    name: str
    tasks: tuple[BundleTask, ...]
    files: tuple[str, str]


def read_bundle(folder: str) -> Bundle:
    """The tasks of a bundle. Raises BundleError, also where a file of items is not there."""
    folder = os.path.abspath(folder)
    tasks_file, meta_file = os.path.join(folder, _TASKS), os.path.join(folder, _META)
    for path in (tasks_file, meta_file):
        if not os.path.isfile(path):
            raise BundleError(f"{folder} is no bundle of tasks: there is no file {path}")
    baselines = _baselines(meta_file)
    members: dict[str, BundleTask] = {}
    for where, entry in _entries(tasks_file):
        member = _member(folder, where, entry, baselines, meta_file)
        if member.spec.name in members:
            raise BundleError(f"{where}: the task {member.spec.name!r} is there twice")
        members[member.spec.name] = member
    if not members:
        raise BundleError(f"{tasks_file} has no list `icl_tasks` with tasks in it")
    return Bundle(os.path.basename(folder), tuple(members.values()), (tasks_file, meta_file))


def _member(folder: str, where: str, entry: dict[str, Any], baselines: dict[str, float], meta_file: str) -> BundleTask:
    label, uri, kind = (_text(where, entry, key) for key in ("label", "dataset_uri", "icl_task_type"))
    if kind not in _KINDS:
        raise BundleError(f"{where}: task {label!r} is of type {kind!r}; supported are {', '.join(_KINDS)}")
    shots = entry.get("num_fewshot")
    if not (isinstance(shots, list) and len(shots) == 1 and type(shots[0]) is int and shots[0] >= 0):
        raise BundleError(f"{where}: num_fewshot of task {label!r} is {shots!r}, not one number in a list, as in [10]")
    path = os.path.join(folder, _DATA, uri)
    if not os.path.isfile(path):
        raise BundleError(f"{where}: the items of task {label!r} are not there: {path}")
    if label not in baselines:
        raise BundleError(f"{meta_file} has no random baseline of task {label!r}")
    delimiter = entry.get("continuation_delimiter", " ")
    if not isinstance(delimiter, str):
        raise BundleError(f"{where}: continuation_delimiter of task {label!r} is {delimiter!r}, not a text")
    spec = task_spec(kind, scoring="core", shots=shots[0], delimiter=delimiter, random_baseline=baselines[label])
    return BundleTask(TaskSpec(**{**spec.__dict__, "name": label}), path)


def _text(where: str, entry: dict[str, Any], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise BundleError(f"{where}: a task has no {key}")
    return value


def _baselines(path: str) -> dict[str, float]:
    """Task label -> accuracy by chance as a share; the file has per cent."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"Eval Task", "Random baseline"} <= set(reader.fieldnames or ()):
                raise BundleError(f"{path} has no columns `Eval Task` and `Random baseline`")
            rows = [(reader.line_num, row["Eval Task"], row["Random baseline"]) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    shares = {}
    for line, label, percent in rows:
        try:
            share = 0.01 * float(percent)
        except (TypeError, ValueError):
            raise BundleError(f"{path} line {line}: the random baseline of {label!r} is {percent!r}") from None
        if not 0 <= share < 1:
            raise BundleError(f"{path} line {line}: the random baseline of {label!r} is {percent} per cent")
        shares[label] = share
    return shares


def _entries(path: str) -> list[tuple[str, dict[str, Any]]]:
    """(FILE line N, mapping) of each entry of `icl_tasks`: a list of flat mappings is all of YAML that is read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    entries: list[tuple[str, dict[str, Any]]] = []
    inside, deepest = False, 0
    for number, line in enumerate(lines, 1):
        where, bare = f"{path} line {number}", line.strip()
        if not bare or bare.startswith("#") or bare == "---":
            continue
        indent = len(line) - len(line.lstrip(" "))
        if indent == 0 and not bare.startswith("-"):
            inside = bare == "icl_tasks:"
        elif inside and bare.startswith("-") and (not entries or indent <= deepest):
            entries.append((where, {}))
            deepest = indent
            if rest := bare[1:].strip():
                _add(where, entries[-1][1], rest)
        elif inside and entries and bare.startswith("-"):
            _add_member(where, entries[-1][1], bare[1:].strip())
        elif inside and entries:
            _add(where, entries[-1][1], bare)
        elif inside:
            raise BundleError(f"{where}: not a list of tasks")
    return entries


def _add(where: str, entry: dict[str, Any], text: str) -> None:
    """One `key: value` of an entry. What YAML writes in other ways is refused where it is a key that counts."""
    key, colon, value = text.partition(":")
    key, value = key.strip(), value.strip()
    if not colon or (value and not text.partition(":")[2].startswith(" ")):
        raise BundleError(f"{where}: {text[:60]!r} is not `key: value`")
    if key in _USED:
        if key in entry:
            raise BundleError(f"{where}: {key} is there twice in one task")
        plain = "" if value.startswith(('"', "'", "[")) else value.partition(" #")[0].strip()
        if plain.startswith(("|", ">", "&", "*", "!", "~")) or plain == "null" or ": " in f"{plain} ":
            raise BundleError(f"{where}: {text[:60]!r} is YAML that is not read here: write the value in double quotes")
        if key == "continuation_delimiter" and not value:
            raise BundleError(f'{where}: {key} has no value: write "" for an empty one, or leave the key out')
    entry[key] = _scalar(where, value)


def _add_member(where: str, entry: dict[str, Any], text: str) -> None:
    """One line of a list below its key; the lists of keys that no supported kind of task has are left out."""
    key = next(reversed(entry), None)
    if key == "num_fewshot" and (entry[key] == "" or isinstance(entry[key], list)):
        entry[key] = [*entry[key], int(text) if text.isascii() and text.isdigit() else text]


def _scalar(where: str, text: str) -> Any:
    if text.startswith(('"', "[")):
        try:
            value, end = json.JSONDecoder().raw_decode(text)
        except ValueError:
            raise BundleError(f"{where}: {text[:60]!r} cannot be read") from None
        if (rest := text[end:].strip()) and not rest.startswith("#"):
            raise BundleError(f"{where}: {text[:60]!r} cannot be read")
        return value
    if text.startswith("'"):
        bare = text.partition(" #")[0].strip()
        if len(bare) < 2 or not bare.endswith("'"):
            raise BundleError(f"{where}: {text[:60]!r} is not closed on its line: write it in double quotes")
        return bare[1:-1].replace("''", "'")
    return text.partition(" #")[0].strip()
