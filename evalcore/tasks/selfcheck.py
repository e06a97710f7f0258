"""Verifies the scores of a task by evaluating again with another batch size, on one rank instead of several.

Owns what counts as equal. Never changes a result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from evalcore.measure.process_group import ProcessGroup
from evalcore.measure.selfcheck import TOLERANCE, Check
from evalcore.tasks.evaluate_task import TaskResult, evaluate_task
from evalcore.tasks.prepare import PreparedTask


def task_selfcheck(model: Any, task: PreparedTask, result: TaskResult, **settings: Any) -> Check:
    """Evaluate once more, each rank alone on all items, and compare the nats of every choice."""
    group: ProcessGroup | None = settings.pop("group", None)
    alone = None if group is None else ProcessGroup(group.device)
    batch_size = 1 if result.batch_size > 1 else 2
    again = evaluate_task(model, task, batch_size=batch_size, group=alone, **settings)
    ours, theirs = (np.array(r.item_scores.choice_nats) for r in (result, again))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        same = bool((np.isfinite(ours) == np.isfinite(theirs)).all())
        return Check(same, math.nan, f"selfcheck: {'not finite either way' if same else 'finite only one way'}")
    difference = float((np.abs(ours - theirs) / np.maximum(np.abs(ours), 1.0)).max())
    ok = difference <= TOLERANCE[result.dtype]
    how = f"batch {batch_size} of one rank differs by {difference:.1e} relative at most, over {len(ours)} choices"
    return Check(ok, difference, f"selfcheck {'passed' if ok else 'FAILED'}: {how}")
