"""The text of a task's items, read again from the files that a result was measured on, for `results --items`.

Owns when a text may be shown: only while the files are those of the result. Never judges an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from watcher.cli.options import say

Row = dict[str, Any]
CONTEXT_MAX, CHOICE_MAX, SHARED_MAX = 200, 120, 20  # characters


class ItemTexts:
    """Result -> texts of its items by index; files are read once for all results of one definition."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._known: dict[tuple[str, str, str], dict[int, Any]] = {}

    def of(self, result: Row) -> dict[int, Any]:
        """Index -> rendered item; empty, with a note on stderr, where the files are not there or have changed."""
        key = result["run"], result["eval_set"], result["eval_digest"]
        if key not in self._known:
            items, why = self._read(result)
            if why is not None:
                say(f"note: {result['eval_set']}: items without their text: {why}")
            self._known[key] = items
        return self._known[key]

    def _read(self, result: Row) -> tuple[dict[int, Any], str | None]:
        from evalcore.data_digest import digest_files
        from evalcore.tasks.items import rendered_items
        from evalcore.tasks.rows import RowError
        from evalcore.tasks.spec import TOKENS
        from watcher.store.read.definitions import definition_of

        spec = definition_of(self._store, result)
        if spec is None or spec.task is None:
            return {}, "the definition of the set is not in this database"
        if spec.task.rendering == TOKENS:
            return {}, "the file holds tokens alone"
        try:
            if digest_files(spec.paths) != spec.data_digest:
                return {}, f"{spec.paths[0]} has changed since"
            return {item.index: item for item in rendered_items(spec.task, spec.paths)}, None
        except OSError as error:
            return {}, f"{error.filename} cannot be read: {error.strerror}"
        except RowError as error:
            return {}, error.reason


def texts_of(item: Any | None, gold: int, chosen: int, correct: bool) -> Row:
    """context, gold_text and chosen_text of one item, shortened; None where they are not known.

    A context keeps its end. Which other token a model finds likelier than a gold word is not kept: chosen_text is None.
    """
    if item is None:
        return {"context": None, "gold_text": None, "chosen_text": None}
    schema = len(item.contexts) > 1
    choices = item.contexts if schema else item.continuations
    if schema:
        choices = _where_they_differ(choices)
    before = f"... {item.continuations[0]}" if schema else item.contexts[0]
    if len(choices) == 1:
        picked = choices[0] if correct else None
    else:
        picked = choices[chosen] if chosen < len(choices) else None
    return {
        "context": before if len(before) <= CONTEXT_MAX else f"...{before[-CONTEXT_MAX:]}",
        "gold_text": _short(choices[gold]) if gold < len(choices) else None,
        "chosen_text": None if picked is None else _short(picked),
    }


def _where_they_differ(choices: Sequence[str]) -> list[str]:
    """The choices of a schema without the words that all begin with, where these are long."""
    words = [choice.split(" ") for choice in choices]
    same = next((at for at, each in enumerate(zip(*words, strict=False)) if len(set(each)) > 1), 0)
    shared = len(" ".join(words[0][:same]))
    return [f"...{choice[shared:]}" for choice in choices] if shared > SHARED_MAX else list(choices)


def _short(words: str) -> str:
    return words if len(words) <= CHOICE_MAX else f"{words[:CHOICE_MAX]}..."
