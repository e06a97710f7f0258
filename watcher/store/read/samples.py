"""Questions about generated texts: those of standing versions, by run, section, prompt and step. Reads only.

The SQL of the view `sample_texts` is used, not the view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from watcher.store.engine import Store
from watcher.store.read.typed import lenient
from watcher.store.views import VIEWS

Row = dict[str, Any]


@dataclass(frozen=True)
class WantedTexts:
    """None, or nothing: no limit. steps: first and last, both included. prompt: a part of it, upper case or lower.

    checkpoint_ids: of these versions only.
    """

    run: str | None = None
    name: str | None = None
    steps: tuple[int | None, int | None] = (None, None)
    prompt: str | None = None
    checkpoint_ids: Sequence[int] | None = None
    limit: int | None = None


def texts(store: Store, wanted: WantedTexts) -> list[Row]:
    """Rows of the view, by run, section, prompt and step. limit: only the newest steps of each prompt."""
    low, high = wanted.steps
    given: dict[str, Any] = {"run": wanted.run, "name": wanted.name, "low": low, "high": high}
    given["part"] = wanted.prompt.lower() if wanted.prompt else None
    conditions = {
        "run": "run = :run",
        "name": "name = :name",
        "low": "step >= :low",
        "high": "step <= :high",
        "part": "instr(lower(prompt), :part) > 0" if store.path is not None else "strpos(lower(prompt), :part) > 0",
    }
    parts = [conditions[key] for key, value in given.items() if value is not None]
    if wanted.checkpoint_ids is not None:
        parts.append(f"checkpoint_id IN ({','.join(str(int(each)) for each in wanted.checkpoint_ids) or 'NULL'})")
    where = f"WHERE {' AND '.join(parts)}" if parts else ""
    query = f"""SELECT * FROM ({VIEWS["sample_texts"]}) AS q {where}
                ORDER BY run, name, position, step IS NULL, step, checkpoint_id"""
    used = {key: value for key, value in given.items() if value is not None}
    with store.read() as tx:
        rows = [lenient(row) for row in tx.execute(text(query), used).mappings()]
    if wanted.limit is None:
        return rows
    left: dict[tuple[Any, ...], int] = {}
    kept = []
    for row in reversed(rows):
        key = (row["run"], row["name"], row["position"])
        left[key] = left.get(key, 0) + 1
        if left[key] <= wanted.limit:
            kept.append(row)
    return kept[::-1]


@dataclass(frozen=True)
class SamplePages:
    """The same for the dashboard."""

    store: Store

    def exist(self) -> bool:
        return bool(self._all("SELECT 1 AS one FROM samples LIMIT 1"))

    def sections(self) -> list[Row]:
        """`run_id, run, name` of every section that a run has now."""
        return self._all(
            """SELECT u.id AS run_id, e.run, e.name FROM eval_sets e JOIN runs u ON u.name = e.run
               WHERE e.kind = 'sample' AND e.current = 1 ORDER BY u.id, e.name"""
        )

    def checkpoints(self, run: str, name: str) -> list[Row]:
        """`checkpoint_id, step, checkpoint` that have texts of the section, the newest first.

        Walks the run's checkpoints, not their texts: the texts of each are looked up until the first one.
        """
        return self._all(
            f"""SELECT k.id AS checkpoint_id, k.step, k.path AS checkpoint FROM checkpoints k
                WHERE k.run = :run AND EXISTS
                  (SELECT 1 FROM ({VIEWS["sample_texts"]}) AS q WHERE q.checkpoint_id = k.id AND q.name = :name)
                ORDER BY k.step IS NULL, k.step DESC, k.id DESC""",
            run=run,
            name=name,
        )

    def texts(self, name: str, checkpoint_ids: Sequence[int]) -> list[Row]:
        """The section's texts of these versions. No condition on the run: SQLite would look by it."""
        return texts(self.store, WantedTexts(name=name, checkpoint_ids=checkpoint_ids)) if checkpoint_ids else []

    def of_checkpoint(self, checkpoint_id: int) -> list[Row]:
        """`name, texts` of the sections that have texts of this version."""
        return self._all(
            f"""SELECT name, count(*) AS texts FROM ({VIEWS["sample_texts"]}) AS q WHERE checkpoint_id = :id
                GROUP BY name ORDER BY name""",
            id=checkpoint_id,
        )

    def _all(self, query: str, **values: Any) -> list[Row]:
        with self.store.read() as tx:
            return [lenient(row) for row in tx.execute(text(query), values).mappings()]
