"""The rendered items of a task's files, in order, with the labels that stand in a file beside them.

Owns the index of an item over several files. Standard library only: `results --items` shows their text. Never encodes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from evalcore.data_digest import files_of_dataset
from evalcore.tasks.rendering import Item, render
from evalcore.tasks.rows import Row, RowError, read_labels, read_rows
from evalcore.tasks.sniffing import label_files
from evalcore.tasks.spec import TaskSpec


def rendered_items(spec: TaskSpec, items: Iterable[object]) -> Iterator[Item]:
    """The items of every file, or of rows given as dicts; an index counts over all of them.

    Raises RowError with file and line.
    """
    count = 0
    for number, source in enumerate(_files(items), 1):
        if isinstance(source, dict):
            rows, labels = iter([Row(f"item {number}", 0, source)]), None
        else:
            path = os.fspath(source)  # type: ignore[call-overload]
            rows, labels = read_rows(path), _labels(path, spec)
        seen = 0
        for row in rows:
            label = labels[row.index] if labels is not None and row.index < len(labels) else None
            item = render(spec, row, label)
            yield Item(item.where, count, item.contexts, item.continuations, item.gold)
            count, seen = count + 1, seen + 1
        if labels is not None and seen != len(labels):
            raise RowError(f"{path} has {seen} items, and its file of labels has {len(labels)}", "copy both again")


def _files(items: Iterable[object]) -> Iterator[object]:
    """The files of a folder that Hugging Face's `save_to_disk` wrote, in its place."""
    for source in items:
        inside = None if isinstance(source, dict) else files_of_dataset(os.fspath(source))  # type: ignore[call-overload]
        if inside is None:
            yield source
        else:
            yield from inside


def _labels(path: str, spec: TaskSpec) -> list[str] | None:
    return next((read_labels(file) for file in label_files(path, spec.rendering) if os.path.isfile(file)), None)
