"""What the pages of runs and of comparisons ask: newest configuration, notes and tags, curves as rows. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, text

from watcher.store.engine import Store
from watcher.store.read.typed import lenient

Row = dict[str, Any]


@dataclass(frozen=True)
class RunPages:
    """The database as the pages of runs see it."""

    store: Store

    def run(self, run_id: int) -> Row | None:
        rows = self._all("SELECT * FROM runs WHERE id = :id", id=run_id)
        return rows[0] if rows else None

    def config_of(self, run: str, step: int | None = None) -> Row | None:
        """Configuration, family and size in the checkpoint of this step, or in the one observed last."""
        at = "AND c.step = :step" if step is not None else ""
        rows = self._all(
            f"""SELECT c.id, c.path, c.step, c.config, c.family, c.parameters, c.format, c.size_bytes FROM checkpoints c
                WHERE c.run = :run AND c.weights IS NULL {at} ORDER BY c.observed_at DESC, c.id DESC LIMIT 1""",
            run=run,
            **({"step": step} if step is not None else {}),
        )
        return rows[0] if rows else None

    def annotations(self, runs: Sequence[str]) -> list[Row]:
        """Notes and tags of these runs and their checkpoints, oldest first."""
        query = text("SELECT * FROM annotations WHERE run IN :runs ORDER BY id").bindparams(
            bindparam("runs", expanding=True)
        )
        with self.store.read() as tx:
            return [lenient(row) for row in tx.execute(query, {"runs": list(runs)}).mappings()]

    def _all(self, query: str, **values: Any) -> list[Row]:
        with self.store.read() as tx:
            return [lenient(row) for row in tx.execute(text(query), values).mappings()]
