"""llm.c's tokenised multiple-choice items (`hellaswag_val.bin`): a header and uint16 streams, one for each item.

Source of the layout: karpathy/llm.c f1e2ace, dev/data/data_common.py, write_evalfile. Owns the checks of that layout.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from evalcore.archive.signatures import LLMC_ITEMS
from evalcore.data.errors import DataError
from evalcore.tasks.encoding import EncodedItem, Request

_HEADER_NUMBERS, _START = 256, 65535
_FIXED = 6  # numbers before the context's tokens: start, bytes, index, label, completions, length of the context


def read_tokenised(path: str, id_bytes: np.ndarray | None) -> Iterator[EncodedItem]:
    """Every item of a file, in order. id_bytes int32 (V,): bytes of each id, where a tokenizer gives them.

    Raises DataError for a file that does not follow the layout, with the item where it departs.
    """
    try:
        header = np.fromfile(path, dtype="<i4", count=_HEADER_NUMBERS)
        stream = np.fromfile(path, dtype="<u2", offset=4 * _HEADER_NUMBERS)
        odd = os.path.getsize(path) % 2
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check the path and its permissions") from None
    if len(header) < _HEADER_NUMBERS or header[0] != LLMC_ITEMS or header[1] != 1:
        raise DataError(f"{path} is no file of tokenised items of version 1", "name llm.c's file, or the .jsonl file")
    at = 0
    for number in range(int(header[2])):
        where = f"{path} item {number}"
        size = _size(stream, at, where)
        yield _item(where, number, stream[at : at + size].astype(np.int32), id_bytes)
        at += size
    if at != len(stream) or odd:
        raise DataError(f"{path} goes on after its {header[2]} items", "copy the file again")


def _size(stream: np.ndarray, at: int, where: str) -> int:
    """Numbers of the item that begins here."""
    if at + _FIXED > len(stream) or at + (size := int(stream[at + 1]) // 2) > len(stream) or size < _FIXED:
        raise DataError(f"{where}: the file is cut off", "copy the file again")
    if stream[at] != _START:
        raise DataError(f"{where} does not begin with {_START}", "copy the file again")
    return size


def _item(where: str, index: int, numbers: np.ndarray, id_bytes: np.ndarray | None) -> EncodedItem:
    label, n_choices, length = (int(number) for number in numbers[3:_FIXED])
    context, at = numbers[_FIXED : _FIXED + length], _FIXED + length
    choices = []
    for _ in range(n_choices):
        stop = at + 1 + int(numbers[at]) if at < len(numbers) else len(numbers) + 1
        if stop > len(numbers):
            raise DataError(f"{where}: its parts are longer than the item", "copy the file again")
        choices.append(numbers[at + 1 : stop])
        at = stop
    if at != len(numbers):
        raise DataError(f"{where} has numbers after its last choice", "copy the file again")
    if not len(context) or not n_choices or not all(map(len, choices)):
        raise DataError(f"{where} has an empty context or choice: there is no token to score", "write it again")
    if not label < n_choices:
        raise DataError(f"{where}: label {label} is not one of its {n_choices} choices", "correct the label")
    if n_choices < 2:
        raise DataError(f"{where} has one choice alone: every model would be right", "write the file without it")
    requests = tuple(Request(np.concatenate((context, choice)), length, length) for choice in choices)
    gold = choices[label]
    known = id_bytes is not None and gold.max() < len(id_bytes)
    gold_bytes = int(np.maximum(id_bytes[gold], 0).sum()) if known and id_bytes is not None else 0
    return EncodedItem(where, index, label, requests, gold_bytes, (1,) * n_choices)
