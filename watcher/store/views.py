"""The views people read: latest, curve, best, queue, failures. SQL that SQLite and PostgreSQL both understand."""

from __future__ import annotations

# Only results on the run's current definition of a set, and only the newest version of each step.
_STANDING = """
    FROM results r
    JOIN eval_sets e ON e.run = r.run AND e.name = r.eval_set AND e.digest = r.eval_digest AND e.current = 1
    WHERE r.superseded = 0
"""

VIEWS: dict[str, str] = {
    "curve": f"""
SELECT run, eval_set, step, loss, ppl, bits_per_byte FROM (
    SELECT r.run, r.eval_set, r.step, r.loss, r.ppl, r.bits_per_byte,
           row_number() OVER (PARTITION BY r.run, r.eval_set, r.step ORDER BY r.saved_at DESC, r.id DESC) AS version
    {_STANDING} AND r.step IS NOT NULL
) AS versions WHERE version = 1
""",
    "latest": f"""
SELECT * FROM (
    SELECT r.*, row_number() OVER (PARTITION BY r.run, r.eval_set ORDER BY r.saved_at DESC, r.step DESC, r.id DESC)
           AS place
    {_STANDING}
) AS places WHERE place = 1
""",
    "best": f"""
SELECT * FROM (
    SELECT r.*, row_number() OVER (PARTITION BY r.run, r.eval_set ORDER BY r.loss, r.step, r.id) AS place
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
