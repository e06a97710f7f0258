"""Text files: plain text, JSON lines and JSON arrays, told apart by name and first line.

Owns which of them a file is. Text in disguise, a table or JSON under a plain name is refused, never measured as prose.
"""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path
from typing import Any

from evalcore.data.data_file import DataFile
from evalcore.data.errors import DataError
from evalcore.json_lines import of_object, of_table

AS_TEXT = "--format text (`format` in the settings) measures it as it is"
#: at least 16 whole numbers and nothing else
_NUMBERS = re.compile(rb"[\s\[(]*(?:[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?[\s,;\[\]()]+){15,}[-+.e\d]*[\s\])]*")
_LINE_BYTES = 16 << 20
_WHOLE_BYTES = 16 << 20
_TABLE_CHARS = 2000
_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon"}
#: a name of a column: no sentence
_COLUMNS = re.compile(
    r"id|texts?|labels?|targets?|class|category|content|sentences?|story|title|body|input|output|prompt|completion|"
    r"question|answer|source|document|doc|url|name|index|review|sentiment|summary|article"
)
_COLUMN = re.compile(r"[\w#$%()/.-]+(?: [\w#$%()/.-]+){0,3}")


def read_text(path: Path, head: bytes, kind: str, is_declared: bool) -> DataFile:
    """A file whose content is text. head: its first bytes; kind: by its name, or as declared."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        raise DataError(f"{path} is UTF-32 text", f"convert it: iconv -f UTF-32 -t UTF-8 {path} > utf8.txt")
    is_compressed = path.name.lower().endswith((".gz", ".zst"))
    if not is_compressed and (head.startswith((b"\xff\xfe", b"\xfe\xff")) or _alternates_with_zeros(head)):
        raise DataError(f"{path} is UTF-16 text", f"convert it: iconv -f UTF-16 -t UTF-8 {path} > utf8.txt")
    if kind != "other" and not is_compressed and not is_declared and head.count(0) > len(head) // 8:
        remedy = f"token ids: --format raw --token-dtype uint16 (or their type); {AS_TEXT}"
        raise DataError(f"{path} is no text: it holds many zero bytes", remedy)
    if kind == "other" and not is_utf8(head):
        raise DataError(
            f"{path} is of no known data format",
            "token ids: --format raw --token-dtype uint16 (or their type); text: convert it to UTF-8 .txt",
        )
    if kind == "jsonl":
        return DataFile(path, "jsonl", "JSON lines")
    if kind == "table":
        text = head.decode("utf-8", "replace")
        usual = "\t" if path.suffix.lower() == ".tsv" else ","
        delimiter = next((one for one in _DELIMITERS if _is_table(text, one)), usual)
        raise DataError(f"{path} is a table of columns, not a text", f"{AS_TEXT}; or {of_table(str(path), delimiter)}")
    if not is_declared and kind == "text":
        _refuse_mark_and_table(path, head)
    if kind != "json" and not is_declared and _NUMBERS.fullmatch(head):
        raise DataError(
            f"{path} holds numbers alone, as token ids are written",
            f"save them as one array: numpy.save('val.npy', ids.astype('uint32')); {AS_TEXT}",
        )
    if kind == "json" or not is_declared:
        holds = _json_kind(path, kind == "json")
        if kind == "json":
            return _json(path, holds, is_declared)
        if holds is not None:
            what = {"jsonl": "JSON lines", "json": "a JSON array", "object": "a JSON object"}[holds]
            remedy = f"--format {holds} reads its texts; " if holds != "object" else ""
            raise DataError(f"{path} holds {what} under the name of a plain text", f"{remedy}{AS_TEXT}")
    return DataFile(path, "text", "plain text", notes=_line_ends(path, head))


def _line_ends(path: Path, head: bytes) -> tuple[str, ...]:
    """A note where all lines end in CRLF or CR: a trainer that reads in Python's text mode has LF there."""
    crlf, cr, lf = (head[:-1].count(end) for end in (b"\r\n", b"\r", b"\n"))
    if not cr or (lf and crlf != lf):
        return ()
    quoted = shlex.quote(str(path))
    end, command = ("CRLF", rf"sed -i 's/\r$//' {quoted}") if crlf else ("CR", rf"sed -i 's/\r/\n/g' {quoted}")
    return (f"the lines of {path.name} end in {end}, which is kept; Python's open() reads LF: {command}",)


def _alternates_with_zeros(head: bytes) -> bool:
    """Whether one byte of two is nearly always zero and the other nearly never, as in UTF-16 of Latin letters."""
    pairs = len(head) // 2
    zeros = sorted((head[0 : 2 * pairs : 2].count(0), head[1 : 2 * pairs : 2].count(0)))
    return pairs >= 4 and zeros[0] * 8 <= pairs and zeros[1] * 4 >= pairs * 3


def _refuse_mark_and_table(path: Path, head: bytes) -> None:
    """Raise DataError for a text with a byte order mark, and for a table of columns under the name of a text."""
    if head.startswith(b"\xef\xbb\xbf"):
        raise DataError(
            f"{path} begins with a byte order mark (BOM), which one reader takes for text and another does not",
            f"remove it: sed -i '1s/^\\xEF\\xBB\\xBF//' {path}; {AS_TEXT}",
        )
    for delimiter, what in _DELIMITERS.items():
        if _is_table(head.decode("utf-8", "replace"), delimiter):
            raise DataError(
                f"{path} is a table of columns ({what}-separated) under the name of a plain text",
                f"{AS_TEXT}; or {of_table(str(path), delimiter)}",
            )


def _is_table(text: str, delimiter: str) -> bool:
    """At least 4 whole lines of the same number of cells, 3 or more under short names, or 2 under usual names."""
    lines = text.splitlines()
    if len(text) >= _TABLE_CHARS:
        lines = lines[:-1]  # cut off
    try:
        rows = list(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error:
        return False
    if len(rows) < 4 or len(rows[0]) < 2 or any(len(row) != len(rows[0]) for row in rows):
        return False
    if len(rows[0]) == 2:
        return all(_COLUMNS.fullmatch(name.strip().lower()) for name in rows[0])
    return all(_COLUMN.fullmatch(name.strip()) for name in rows[0])


def _json(path: Path, holds: str | None, is_declared: bool) -> DataFile:
    if holds == "json" or (holds is None and is_declared):
        return DataFile(path, "json", "JSON array")
    if holds == "jsonl":
        return DataFile(path, "jsonl", "JSON lines")
    if holds == "object":
        remedy = f"{AS_TEXT}; or {_as_lines(path)}"
        raise DataError(f"{path} is one JSON object, not a list of documents", remedy)
    raise DataError(f"{path} is no JSON", f"write its texts as .jsonl with the field `text`; {AS_TEXT}")


def _as_lines(path: Path) -> str:
    """How the rows or columns of one JSON object become lines."""
    try:
        value = json.loads(path.read_bytes().decode("utf-8-sig")) if path.stat().st_size <= _WHOLE_BYTES else None
    except (OSError, ValueError, RecursionError):
        value = None
    command = of_object(str(path), value) if isinstance(value, dict) else None
    return command or "write its texts as .jsonl with the field `text`"


def _json_kind(path: Path, is_named_json: bool) -> str | None:
    """jsonl: every line a value; json: an array of documents; object; None: not JSON. Decided by the first line.

    A plain text may begin with a line that parses, such as `[1]` or a quoted sentence: that counts under .json only.
    """
    with open(path, "rb") as file:
        line = b""
        while not line.strip() and (line := file.readline(_LINE_BYTES)):
            pass
        rest = file.read(_WHOLE_BYTES)
    has_more = bool(rest.strip())
    start = line.removeprefix(b"\xef\xbb\xbf").strip()
    try:
        value = json.loads(start) if start.startswith((b"{", b"[", b'"')) else None
    except (ValueError, RecursionError):  # a value over several lines, or a line that is no JSON
        if is_named_json:
            return {b"[": "json", b"{": "object"}.get(start[:1])
        return _whole_kind(line + rest)
    if isinstance(value, dict):
        return "object" if is_named_json and not has_more and of_object("", value) else "jsonl"
    if isinstance(value, list) and (is_named_json or _holds_documents(value)):
        return "jsonl" if has_more else "json"
    return "jsonl" if isinstance(value, str) and is_named_json else None


def _whole_kind(content: bytes) -> str | None:
    """json or object where all of the content is one JSON value; None for prose, and for what is too long to try."""
    if len(content) > _WHOLE_BYTES or content.lstrip()[:1] not in (b"{", b"["):
        return None
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return "object" if isinstance(value, dict) else "json" if _holds_documents(value) else None


def _holds_documents(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, (dict, str)) for value in values)


def is_utf8(head: bytes) -> bool:
    """Whether the first bytes are UTF-8 text; a character may be cut by the end of what was read."""
    if b"\x00" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 4 and len(head) >= 1024
    return True
