"""Verifies a result by evaluating again with another batch size, another chunk size, and one rank instead of several.

Owns what counts as equal. Never changes a result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from evalcore.data.stream import TokenStream
from evalcore.measure.evaluate import EvalResult, evaluate
from evalcore.measure.loss import CHUNK_TOKENS
from evalcore.measure.process_group import ProcessGroup

#: Relative; half-width kernels may order their sums by batch, float32 ones as well, some digits further on.
TOLERANCE = {"float32": 1e-6, "bfloat16": 2e-3, "float16": 2e-3}


@dataclass(frozen=True)
class Check:
    """ok: equal within the dtype's tolerance. difference: relative. sentence: for a result's note or a terminal."""

    ok: bool
    difference: float
    sentence: str


def selfcheck(model: Any, stream: TokenStream, result: EvalResult, **settings: Any) -> Check:
    """Evaluate once more with another batch size and chunk, each rank alone over the whole stream, and compare."""
    group: ProcessGroup | None = settings.pop("group", None)
    alone = None if group is None else ProcessGroup(group.device)
    batch_size = 1 if result.batch_size > 1 else 2
    again = evaluate(model, stream, batch_size=batch_size, chunk_tokens=CHUNK_TOKENS // 2 - 1, group=alone, **settings)
    if not (math.isfinite(result.loss) and math.isfinite(again.loss)):
        same = result.finite == again.finite
        return Check(same, math.nan, f"selfcheck: {'not finite either way' if same else 'finite only one way'}")
    difference = abs(again.loss - result.loss) / max(abs(result.loss), 1e-30)
    ok = difference <= TOLERANCE[result.dtype]
    how = f"batch {batch_size} of one rank gives {again.loss!r}, {difference:.1e} relative"
    return Check(ok, difference, f"selfcheck {'passed' if ok else 'FAILED'}: {how}")
