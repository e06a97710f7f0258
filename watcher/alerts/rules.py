"""Which alerts a result, failure, pause or queue raises. Pure: facts in, alerts out; channels.py sends them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from evalcore.logged_loss import contradicts_log
from watcher.domain.metrics import LOSS, METRICS, Metric, headline
from watcher.report.format import duration, strict
from watcher.settings.schema import AlertSettings

Row = dict[str, Any]
EVENT_TEXT_MAX = 4000
INTERVALS_MIN = 3  # intervals between saves before a median is used


@dataclass(frozen=True)
class ResultFacts:
    """A new result beside the best one before it on the same run and set, by one metric (None: there was none).

    earlier: the best at a lower step; difference, stderr: of the metric, new minus earlier, paired where windows or
    items are kept.
    """

    row: Row
    best: Row | None = None
    earlier: Row | None = None
    difference: float | None = None
    stderr: float | None = None
    metric: Metric = LOSS


@dataclass(frozen=True)
class RunFacts:
    """saved_s: when the newest checkpoints of a run were saved, ascending, seconds since the epoch."""

    run: str
    last_checkpoint_id: int
    last_checkpoint: str
    saved_s: Sequence[float]


@dataclass(frozen=True)
class QueueFacts:
    """The oldest waiting job."""

    job_id: int
    run: str
    checkpoint: str
    age_s: float


@dataclass(frozen=True)
class Alert:
    """kind: one of `on`. text: one sentence. result: the row that it is about; metric: what it was judged by."""

    kind: str
    text: str
    run: str
    eval_set: str | None = None
    checkpoint: str | None = None
    step: int | None = None
    result: Row | None = None
    failure: Row | None = None
    metric: str | None = None

    def as_json(self) -> Row:
        """For channels and the events table; a failure's reason can be megabytes long and is cut."""
        return strict(asdict(self), EVENT_TEXT_MAX)


def metric_of(rule: AlertSettings, row: Row) -> Metric:
    """What `best` and `regression` of this rule go by on the row's set."""
    return METRICS[rule.metric] if rule.metric is not None else headline(row)


def decide(rule: AlertSettings, facts: ResultFacts) -> list[Alert]:
    """The alerts that one new result raises under this rule."""
    row = facts.row
    if rule.eval_set is not None and row["eval_set"] != rule.eval_set:
        return []
    where = f"{row['run']}: {row['checkpoint']} on {row['eval_set']}"
    raised = []
    if "nonfinite" in rule.on and not row["finite"]:
        raised.append(("nonfinite", f"{where}: the loss is not finite"))
    metric = facts.metric
    value = metric.value_of(row)
    if row["finite"]:
        if value is not None and "best" in rule.on:
            known = None if facts.best is None else metric.value_of(facts.best)
            if facts.best is not None and known is not None and metric.better(value, known):
                before = f"{known:.4f} at step {facts.best['step']}"
                raised.append(("best", f"{where}: new best {metric.key} {value:.4f} (before: {before})"))
            elif facts.best is None and _keeps_a_file(rule) and row.get("weights") is None:
                # the newest is evaluated first: without this a best that is measured first would never be linked
                raised.append(("best", f"{where}: first {metric.key} {value:.4f}"))
        if value is not None and "regression" in rule.on and _regressed(rule, facts):
            assert facts.earlier is not None and facts.difference is not None
            before = f"{metric.value_of(facts.earlier):.4f} at step {facts.earlier['step']}"
            worse = f"{abs(facts.difference):.4f} ± {facts.stderr:.4f}"
            raised.append(("regression", f"{where}: {metric.key} {value:.4f} is worse than {before} by {worse}"))
        if "logged_loss" in rule.on and _contradicts(row) and not (facts.best and _contradicts(facts.best)):
            logged = f"{row['logged_val_loss']:.4f}"
            why = "it is other data, or not the model that was trained (activation, positions, factory)"
            raised.append(("logged_loss", f"{where}: loss {row['loss']:.4f}, but the trainer logged {logged}: {why}"))
        if "result" in rule.on:
            shown = metric if value is not None else headline(row)
            raised.append(("result", f"{where}: {shown.key} {shown.value_of(row):.4f}"))
    elif "result" in rule.on:
        raised.append(("result", f"{where}: the loss is not finite"))
    about = {key: row[key] for key in ("run", "eval_set", "checkpoint", "step")}
    return [Alert(kind, text, result=row, metric=metric.key, **about) for kind, text in raised]


def decide_failure(rule: AlertSettings, failure: Row) -> list[Alert]:
    """failure: a failed job, or a file that cannot be registered (then without a set)."""
    other_set = rule.eval_set is not None and failure["eval_set"] not in (None, rule.eval_set)
    if "failure" not in rule.on or other_set:
        return []
    on = f" on {failure['eval_set']}" if failure["eval_set"] else ""
    text = f"{failure['run']}: {failure['checkpoint']}{on} failed: {failure['kind']}: {failure['reason']}"
    about = {key: failure[key] for key in ("run", "eval_set", "checkpoint", "step")}
    return [Alert("failure", text, failure=failure, **about)]


def decide_stalled(rule: AlertSettings, facts: RunFacts, now_s: float) -> list[Alert]:
    """No new checkpoint for `stalled_factor` times the median interval between saves."""
    pauses = [later - earlier for earlier, later in zip(facts.saved_s, facts.saved_s[1:], strict=False)]
    if "stalled" not in rule.on or len(pauses) < INTERVALS_MIN:
        return []
    usual_s, silent_s = statistics.median(pauses), now_s - facts.saved_s[-1]
    if usual_s <= 0 or silent_s <= rule.stalled_factor * usual_s:
        return []
    text = (
        f"{facts.run}: no new checkpoint for {duration(silent_s)}, usual interval "
        f"{duration(usual_s)}; the last is {facts.last_checkpoint}"
    )
    return [Alert("stalled", text, facts.run, checkpoint=facts.last_checkpoint)]


def decide_lag(rule: AlertSettings, facts: QueueFacts | None) -> list[Alert]:
    """The oldest waiting job is older than `lag_s`."""
    if "lag" not in rule.on or facts is None or facts.age_s <= rule.lag_s:
        return []
    text = f"{facts.run}: {facts.checkpoint} has been queued for {duration(facts.age_s)}"
    return [Alert("lag", text, facts.run, checkpoint=facts.checkpoint)]


def _keeps_a_file(rule: AlertSettings) -> bool:
    return rule.best_link is not None or rule.best_copy is not None


def _contradicts(row: Row) -> bool:
    """Of a task or a mean of checkpoints the trainer has logged nothing."""
    if row.get("task") is not None or row.get("weights") is not None:
        return False
    windows = row["tokens"] / row["seq_len"] if row.get("seq_len") else 1
    return contradicts_log(row["loss"], row["logged_val_loss"], row["loss_stderr"], windows)


def _regressed(rule: AlertSettings, facts: ResultFacts) -> bool:
    if facts.earlier is None or facts.difference is None or facts.stderr is None:
        return False
    worse = -facts.difference if facts.metric.higher_is_better else facts.difference
    return worse > 0 and worse > rule.k_stderr * facts.stderr
