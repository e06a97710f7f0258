"""Rows of `samples` in a test's database: a section of prompts, and the texts of a checkpoint."""

from __future__ import annotations

from typing import Any

from evalcore.messages import EvalSetSpec, to_json
from evalcore.sampling.spec import SampleSpec
from tests.support.database import Database
from watcher.store import schema


def sample_set(
    database: Database, prompts: tuple[str, ...], run: str = "gpt", name: str = "stories", digest: str = "sha256:s1"
) -> int:
    """A `[[sample]]` section of the run as it is now; other definitions of the name are not current any more."""
    spec = to_json(EvalSetSpec(name, (), tokenizer="bytes", sample=SampleSpec(prompts, 16)))
    with database.store.write() as tx:
        older = (schema.eval_sets.c.run == run, schema.eval_sets.c.name == name)
        tx.execute(schema.eval_sets.update().where(*older).values(current=0))
        values = {"run": run, "name": name, "digest": digest, "spec": spec, "current": 1, "kind": "sample"}
        made = schema.eval_sets.insert().values(created_at="2026-01-01T00:00:00.000Z", **values)
        return tx.execute(made.returning(schema.eval_sets.c.id)).scalar_one()


def sample_texts(database: Database, checkpoint: int, texts: dict[str, str], run: str = "gpt", **more: Any) -> None:
    """texts: prompt -> text, in order of the section."""
    values = {"run": run, "checkpoint_id": checkpoint, "name": "stories", "digest": "sha256:s1", "model_digest": ""}
    values |= {"mode": "greedy", "max_new_tokens": 16, "ended": "length", "at": "2026-01-01T00:00:00.000Z"}
    rows = [
        {"position": place, "prompt": prompt, "text": text, "tokens": 16, **values, **more}
        for place, (prompt, text) in enumerate(texts.items())
    ]
    with database.store.write() as tx:
        tx.execute(schema.samples.insert(), rows)
