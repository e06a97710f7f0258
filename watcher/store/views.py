"""The views people read: latest, curve, best, queue, failures. SQL that SQLite and PostgreSQL both understand.

A mean of checkpoints (`weights`) never stands among single ones. Versions order by their observation, never by mtime.
"""

from __future__ import annotations

# Only results on the run's current definition of a set, and only versions that stand.
_STANDING = """
    FROM results r
    JOIN eval_sets e ON e.run = r.run AND e.name = r.eval_set AND e.digest = r.eval_digest AND e.current = 1
    LEFT JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint AND c.digest = r.checkpoint_digest
    WHERE r.superseded = 0
"""
#: When the version of a result was observed; a result whose checkpoint is not known counts from when it was saved.
_OBSERVED = "coalesce(c.observed_at, r.saved_at)"

VIEWS: dict[str, str] = {
    "curve": f"""
SELECT run, eval_set, step, loss, ppl, bits_per_byte FROM (
    SELECT r.run, r.eval_set, r.step, r.loss, r.ppl, r.bits_per_byte,
           row_number() OVER (PARTITION BY r.run, r.eval_set, r.step ORDER BY {_OBSERVED} DESC, r.id DESC) AS version
    {_STANDING} AND r.step IS NOT NULL AND r.weights IS NULL
) AS versions WHERE version = 1
""",
    "latest": f"""
SELECT * FROM (
    SELECT r.*, row_number() OVER (PARTITION BY r.run, r.eval_set, r.weights
                                   ORDER BY {_OBSERVED} DESC, r.step DESC, r.id DESC) AS place
    {_STANDING}
) AS places WHERE place = 1
""",
    "best": f"""
SELECT * FROM (
    SELECT r.*, row_number() OVER (PARTITION BY r.run, r.eval_set, r.weights ORDER BY r.loss, r.step, r.id) AS place
    {_STANDING} AND r.finite = 1
) AS places WHERE place = 1
""",
    "queue": """
SELECT j.id AS job, j.run, c.path AS checkpoint, c.step, e.name AS eval_set, j.state, j.priority,
       j.charged AS attempts, j.not_before, j.reason, j.enqueued_at, j.claimed_at, j.launch_id AS launch
FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id JOIN eval_sets e ON e.id = j.eval_set_id
WHERE j.state IN ('queued', 'running')
""",
    "failures": """
SELECT j.run, c.path AS checkpoint, c.step, e.name AS eval_set, j.kind, j.reason, j.charged AS attempts,
       j.finished_at AS at
FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id JOIN eval_sets e ON e.id = j.eval_set_id
WHERE j.state = 'failed'
UNION ALL
SELECT k.run, k.path AS checkpoint, NULL AS step, NULL AS eval_set, k.kind, k.reason, 0 AS attempts, k.at
FROM candidates k WHERE k.final = 1
""",
}

MEANINGS: dict[str, str] = {
    "curve": "The loss curve: one row for each step, its newest version, on the set as it is defined now.",
    "latest": "The newest result of each run and set.",
    "best": "The lowest finite loss of each run and set. (`ckptwatch results --best` also considers the noise.)",
    "queue": "Jobs that wait or run.",
    "failures": "Failed jobs and irregular files alike, with the reason.",
}
