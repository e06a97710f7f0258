"""/metrics: the database and the daemon's health as Prometheus families."""

from __future__ import annotations

from watcher.domain.metrics import PUBLISHED
from watcher.domain.timestamps import seconds
from watcher.report.prometheus import Family, exposition
from watcher.report.suites import newest_of_each
from watcher.web.overview_facts import facts
from watcher.web.source import Source

JOB_STATES = ("queued", "running", "succeeded", "failed", "cancelled")


def page(source: Source, now_s: float) -> str:
    """All families; losses by run and set, of the newest and of the best checkpoint."""
    return exposition(families(source, now_s))


def families(source: Source, now_s: float) -> list[Family]:
    """Every metric that there is, also those without a sample now."""
    return [*_health(source, now_s), *_work(source, now_s), *_numbers(source)]


def _health(source: Source, now_s: float) -> list[Family]:
    health, status = source.health(), source.status_file() or {}
    up = Family("ckptwatch_up", "1 while a daemon holds the lock.")
    up.add(int(health.state != "down"))
    healthy = Family("ckptwatch_healthy", "1 where no action is needed; /healthz gives the reasons.")
    healthy.add(int(health.ok))
    scan = Family("ckptwatch_scan_age_seconds", "Time since the last finished scan of a run's folder.")
    dropped = Family("ckptwatch_event_overflows_total", "File events that the kernel dropped.", "counter")
    silent_s = max(0.0, now_s - seconds(status["at"])) if status.get("at") else 0.0
    for run in status.get("runs") or []:
        age_s = run.get("last_scan_age_s")
        scan.add(age_s + silent_s if age_s is not None else None, run=run.get("name"))
        dropped.add(run.get("overflows"), run=run.get("name"))
    return [up, healthy, scan, dropped]


def _work(source: Source, now_s: float) -> list[Family]:
    counts, waiting_at = source.pages.counts(), source.pages.oldest_waiting_at()
    jobs = Family("ckptwatch_jobs", "Jobs by state, without those of [[sample]].")
    samples, sampled = Family("ckptwatch_sample_jobs", "Jobs of [[sample]] by state."), source.pages.sample_counts()
    for state in JOB_STATES:
        jobs.add(counts.get(state, 0), state=state)
        samples.add(sampled.get(state, 0), state=state)
    waiting = Family("ckptwatch_oldest_waiting_seconds", "Age of the oldest waiting job; 0 where none waits.")
    waiting.add(max(0.0, now_s - seconds(waiting_at)) if waiting_at else 0.0)
    checkpoints = Family("ckptwatch_checkpoints", "Registered checkpoints, without older versions of a file.")
    results = Family("ckptwatch_results", "Rows in the table results.")
    newest = Family("ckptwatch_newest_checkpoint_seconds", "When the newest checkpoint was saved, Unix time.")
    for run in source.remembered.get("runs", source.pages.runs):
        checkpoints.add(run["checkpoints"], run=run["name"])
        results.add(run["results"], run=run["name"])
        newest.add(seconds(run["newest_saved_at"]) if run["newest_saved_at"] else None, run=run["name"])
    exports = Family("ckptwatch_exports", "Rows of the outbox by sink and state.")
    for row in source.pages.exports():
        exports.add(row["n"], sink=row["sink"], state=row["state"])
    return [jobs, samples, waiting, checkpoints, results, newest, exports]


def _numbers(source: Source) -> list[Family]:
    newest = {m.value: Family(f"ckptwatch_eval_{m.key}", f"Newest checkpoint: {m.about}") for m in PUBLISHED}
    step = Family("ckptwatch_eval_step", "Training step of the newest evaluated checkpoint.")
    finite = Family("ckptwatch_eval_finite", "0 where the newest checkpoint's loss is not finite.")
    speed = Family("ckptwatch_eval_tokens_per_second", "Speed of the newest evaluation.")
    known = facts(source)  # asked once for each change of the database, as for the overview
    for row in filter(None, (known.newest_of(cell) for cell in known.cells)):
        labels = {"run": row["run"], "eval_set": row["eval_set"]}
        for column, family in newest.items():
            family.add(row[column], **labels)
        step.add(row["step"], **labels)
        finite.add(row["finite"], **labels)
        speed.add(row["tokens_per_second"], **labels)
    best = Family("ckptwatch_best_loss", "Lowest loss so far.")
    best_step = Family("ckptwatch_best_step", "Training step of the lowest loss so far.")
    for row in filter(None, (known.shown.get(cell["lowest"]) for cell in known.cells)):
        best.add(row["loss"], run=row["run"], eval_set=row["eval_set"])
        best_step.add(row["step"], run=row["run"], eval_set=row["eval_set"])
    best_accuracy = Family("ckptwatch_best_accuracy", "Highest accuracy so far on a task.")
    for row in source.remembered.get("best accuracy", source.pages.best_accuracy):
        best_accuracy.add(row["accuracy"], run=row["run"], eval_set=row["eval_set"])
    suite = Family("ckptwatch_suite", "Mean accuracy above chance over a suite's tasks, newest checkpoint with all.")
    suite_error = Family("ckptwatch_suite_stderr", "Standard error of that mean.")
    for score in newest_of_each(source.remembered.get("suites", source.pages.suites)):
        if score.weights is None:
            suite.add(score.value, run=score.run, suite=score.suite)
            suite_error.add(score.stderr, run=score.run, suite=score.suite)
    return [*newest.values(), step, finite, speed, best, best_step, best_accuracy, suite, suite_error]
