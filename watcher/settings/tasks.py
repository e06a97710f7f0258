"""The tasks of the settings: what task the files of an `[[eval]]` section hold, and the members of a `[[suite]]`.

Reads no more of a file than its first row, to recognise a task. Never reads an item's label, never renders one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from evalcore.tasks.bundle import BundleError, read_bundle
from evalcore.tasks.sniffing import TaskEvidence, sniff_task, text_format
from evalcore.tasks.spec import TaskSpec, task_spec
from watcher.errors import ConfigError
from watcher.settings.evaluation import EvalSettings, SuiteSettings, misplaced_keys


def task_of(section: EvalSettings, paths: Sequence[str]) -> TaskSpec | None:
    """The task that the section names or its files are recognised as; None for a token stream. Raises ConfigError."""
    name = section.task or _recognised(section, paths)
    if (problem := misplaced_keys(section, is_task=name is not None)) is not None:
        raise ConfigError(f"[[eval]] {section.name}: {problem}")
    if name is None:
        return None
    given = {key: getattr(section, key) for key in ("shots", "delimiter", "bos", "max_items")}
    try:
        return task_spec(name, scoring=section.scoring, **given)
    except ValueError as error:
        raise ConfigError(f"[[eval]] {section.name}: {error}") from None


def suite_members(suite: SuiteSettings) -> list[tuple[EvalSettings, TaskSpec]]:
    """An eval set named SUITE/TASK for each task of the bundle, in its order. Raises ConfigError."""
    try:
        bundle = read_bundle(suite.data)
    except BundleError as error:
        raise ConfigError(f"[[suite]] {suite.name}: {error}") from None
    same = {"tokenizer": suite.tokenizer, "seq_len": suite.seq_len, "dtype": suite.dtype}
    members = []
    for member in bundle.tasks:
        spec = dataclasses.replace(member.spec, max_items=suite.max_items)
        members.append((EvalSettings(name=f"{suite.name}/{spec.name}", data=(member.path,), **same), spec))
    return members


def evidence_of_task(path: str, *, explicit_text: bool = False) -> TaskEvidence | None:
    """What the file is recognised as, unless the user said how it is to be read as text or tokens."""
    return None if explicit_text else sniff_task(path)


def _recognised(section: EvalSettings, paths: Sequence[str]) -> str | None:
    explicit = section.format != "auto" or section.text_field != "text"
    found = {path: evidence_of_task(path, explicit_text=explicit) for path in paths}
    names = {evidence.candidates if evidence else None for evidence in found.values()}
    where = f"[[eval]] {section.name}"
    if len(names) > 1:
        parts = [f"{path} ({' or '.join(e.candidates) if e else 'text or tokens'})" for path, e in found.items()]
        raise ConfigError(
            f"{where}: its files do not hold the same: {', '.join(parts[:4])}",
            hint="give each its own [[eval]] section or --data, or name the task with `task` or --task",
        )
    path, evidence = next(iter(found.items()))
    if evidence is None:
        return None
    tasks = " or ".join(evidence.candidates)
    if evidence.also_text:
        raise ConfigError(
            f"{where}: {path} is both: items of {tasks} ({evidence.why}), and documents with a field `text`",
            hint=f"name it: --task {evidence.candidates[0]}, or --format {text_format(path)} for its text",
        )
    if evidence.task is None:
        raise ConfigError(
            f"{where}: {path} holds items of {tasks}: {evidence.why}",
            hint=f"name the task: --task {evidence.candidates[0]}, or `task` in [[eval]]",
        )
    return evidence.task
