"""Questions about the definition of an eval set: what a stored result was measured on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from evalcore.messages import EvalSetSpec, from_json
from watcher.store.engine import Store
from watcher.store.schema import eval_sets

Row = dict[str, Any]


def definition_of(store: Store, result: Row) -> EvalSetSpec | None:
    """The definition of the eval set that a result was measured on; None where it is not in this database."""
    e = eval_sets.c
    query = select(e.spec).where(
        e.run == result["run"], e.name == result["eval_set"], e.digest == result["eval_digest"]
    )
    with store.read() as tx:
        spec = tx.execute(query).scalar()
    return None if spec is None else from_json(EvalSetSpec, spec)
