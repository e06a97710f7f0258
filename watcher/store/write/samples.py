"""The verb `record_samples`: texts that a worker generated become rows of `samples`, all in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import insert

from evalcore.messages import EvalSetSpec, SampleText, from_json
from watcher.domain.job import Transition
from watcher.store.engine import Store
from watcher.store.schema import samples
from watcher.store.write.attempts import OpenAttempt, end_attempt
from watcher.store.write.results import stand, version_of
from watcher.store.write.runs import run_lock

NUL, SHOWN_NUL = "\0", "\u2400"  # PostgreSQL keeps no NUL in a text


def record_samples(
    store: Store, attempt: OpenAttempt, move: Transition, texts: Sequence[SampleText], content_digest: str, now: str,
    *, run: str = "",
) -> int | None:  # fmt: skip
    """End the attempt and insert a row for each prompt; earlier rows of the same version and section are replaced.

    Returns how many. None: the token was stale, and nothing was written but that.
    """
    with store.write(alone=run_lock(run)) as tx:
        if not end_attempt(tx, attempt.id, attempt.token, attempt.job.id, move, None, now):
            return None
        row = version_of(tx, attempt.job.id)
        same = {"checkpoint_id": row.id, "name": row.eval_set, "digest": row.eval_digest}
        same |= {"model_digest": row.evaluated_as}
        tx.execute(samples.delete().where(*(samples.c[name] == value for name, value in same.items())))
        settings = _settings(row)
        same |= {"run": row.run, "content_digest": content_digest or None, "at": now, **settings}
        tx.execute(insert(samples), [{**same, **_text(place, text)} for place, text in enumerate(texts)])
        stand(tx, row, content_digest or None, now)
        return len(texts)


def _settings(row: Any) -> dict[str, Any]:
    spec: EvalSetSpec = from_json(EvalSetSpec, row.eval_spec)
    assert spec.sample is not None
    names = ("mode", "seed", "temperature", "top_k", "top_p", "max_new_tokens")
    return {"tokenizer": spec.tokenizer, **{name: getattr(spec.sample, name) for name in names}}


def _text(place: int, text: SampleText) -> dict[str, Any]:
    return {
        "position": place,
        "prompt": text.prompt.replace(NUL, SHOWN_NUL),
        "text": text.text.replace(NUL, SHOWN_NUL),
        "tokens": len(text.tokens),
        "ended": text.ended,
        "note": text.note,
    }
