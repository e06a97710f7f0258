"""Is the validation data still as it was hashed? While it is not, nothing is claimed. Reads stat results only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalcore.data_digest import stamp
from evalcore.messages import EvalSetSpec
from watcher.domain.health import Pause, Paused
from watcher.settings.eval_sets import changed_files, missing_files

DATA_SETTLE_S = 2.0  # changed data is hashed again once it has not changed for this long


@dataclass
class DataWatch:
    """The data of all sets. `check` is called once a tick."""

    _changed: tuple[list[str], float] | None = None  # stamps of the changed files, and since when they are these

    def check(self, specs: Sequence[EvalSetSpec], now_s: float) -> Paused | None:
        """Why nothing may be claimed now; None while all is as it was hashed. now_s: monotonic.

        Samples stop nothing: their worker looks at the tokenizer itself.
        """
        specs = [spec for spec in specs if spec.kind != "sample"]
        if missing := [path for spec in specs for path in missing_files(spec)]:
            return Paused(Pause.DATA_MISSING, tuple(dict.fromkeys(missing)))
        changed = list(dict.fromkeys(path for spec in specs for path in changed_files(spec)))
        if not changed:
            self._changed = None
            return None
        stamps = list(map(stamp, changed))
        if self._changed is None or self._changed[0] != stamps:
            self._changed = (stamps, now_s)
        return Paused(Pause.DATA_CHANGING, tuple(changed))

    def quiet(self, now_s: float) -> bool:
        """Has the changed data been quiet for long enough to be hashed again?"""
        return self._changed is not None and now_s - self._changed[1] >= DATA_SETTLE_S

    def hashed_again(self) -> None:
        self._changed = None
