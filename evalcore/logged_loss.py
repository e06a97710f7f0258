"""Does a measured loss contradict the validation loss that the trainer logged in the file? Pure, standard library only.

A model that is not quite the one that was trained (another activation, another rotation) loads without an error and
gives a loss that is wrong; the trainer's own number is the evidence.
"""

from __future__ import annotations

import math

#: Trainers average over 20 to 200 batches; 20 windows is the fewest, so the widest error.
TRAINER_WINDOWS = 20
SIGMAS = 5.0
#: Differences within these come from another dtype, part of the data or cut of the windows, whatever the sampling.
NATS_MIN, SHARE_MIN = 0.1, 0.05


def contradicts_log(
    loss: float | None,
    logged: float | None,
    stderr: float | None = None,
    windows: float = 1,
    trainer_windows: float | None = None,
) -> bool:
    """Whether the two differ by far more than sampling explains.

    loss, logged: nats per token. stderr: of `loss`, over `windows`. trainer_windows: windows that the trainer averaged
    over, where the file has it. Both errors count, 5 standard errors in all.
    """
    if loss is None or logged is None or not (math.isfinite(loss) and math.isfinite(logged)) or logged <= 0:
        return False
    ours = stderr if stderr is not None and math.isfinite(stderr) else 0.0
    theirs = ours * math.sqrt(max(windows, 1) / max(trainer_windows or TRAINER_WINDOWS, 1))
    return abs(loss - logged) > max(NATS_MIN, SHARE_MIN * logged, SIGMAS * math.hypot(ours, theirs))
