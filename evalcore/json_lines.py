"""Commands that rewrite a table, or one JSON object of rows or columns, as JSON lines: remedies of refusals.

Owns the commands, which need Python alone and never write over a file, and the forms of such objects. Never reads a
file.
"""

from __future__ import annotations

import os
import shlex
from typing import Any

#: Keys under which one object holds a list of rows.
_ROWS = ("data", "rows", "items", "examples", "instances", "documents", "docs")
_SPLITS = {"train", "val", "valid", "validation", "dev", "test"}


def of_table(path: str, delimiter: str = ",") -> str:
    """A command for separated values under a head line: an object a row, all values as texts."""
    options = "" if delimiter == "," else f", delimiter={delimiter!r}"
    rows = f"csv.DictReader(open(sys.argv[1], encoding='utf-8-sig', newline=''){options})"
    return _command("import csv, json, sys; csv.field_size_limit(1 << 30)", f"for row in {rows}", path)


def of_object(path: str, value: dict[str, Any]) -> str | None:
    """A command for an object that holds rows or columns; None for any other, such as a row."""
    columns = list(value.values())
    if isinstance(value.get("columns"), list) and isinstance(value.get("data"), list):  # pandas, orient="split"
        rows = "(dict(zip(top['columns'], cells, strict=True)) for cells in top['data'])"
    elif key := next((key for key in _ROWS if _are_objects(value.get(key))), None):
        rows = f"top['{key}']"
    elif _are_numbered(columns):  # pandas' default: {"text": {"0": "a", ...}}
        rows = "({name: top[name][at] for name in top} for at in next(iter(top.values())))"
    elif _are_lists(columns) and not _SPLITS & set(value):  # {"text": ["a", ...]}
        rows = "(dict(zip(top, cells, strict=True)) for cells in zip(*top.values(), strict=True))"
    else:
        return None
    file = "open(sys.argv[1], encoding='utf-8-sig')"
    tops = f"map(json.loads, {file})" if path.lower().endswith(".jsonl") else f"[json.load({file})]"
    return _command("import json, sys", f"for top in {tops} for row in {rows}", path)


def _are_numbered(columns: list[Any]) -> bool:
    if not columns or not all(isinstance(column, dict) for column in columns):
        return False
    return len({tuple(column) for column in columns}) == 1 and all(number.isdigit() for number in columns[0])


def _are_lists(columns: list[Any]) -> bool:
    """Of the same length, and not of objects, as the turns of a conversation are."""
    if not columns or not all(isinstance(column, list) for column in columns):
        return False
    return len({len(column) for column in columns}) == 1 and not any(map(_are_objects, columns))


def _are_objects(rows: Any) -> bool:
    return isinstance(rows, list) and bool(rows) and all(isinstance(row, dict) for row in rows)


def _command(before: str, loops: str, path: str) -> str:
    stem, ending = os.path.splitext(path)
    if unpack := {".gz": "gunzip -k", ".zst": "unzstd"}.get(ending.lower()):
        return f"unpack it with `{unpack} {shlex.quote(path)}`, and give the file that this writes"
    target = f"{stem}-rows.jsonl" if ending.lower() == ".jsonl" else f"{stem}.jsonl"
    code = f"{before}; out = open(sys.argv[2], 'x'); [print(json.dumps(row), file=out) {loops}]"
    return f'write it as JSON lines: python3 -c "{code}" {shlex.quote(path)} {shlex.quote(target)}'
