"""The views people read: latest, curve, best, scores, suites, queue, failures, in SQL of SQLite and PostgreSQL alike.

A mean of checkpoints (`weights`) never stands among single ones. Versions order by their observation, never by mtime.
"""

from __future__ import annotations

from watcher.domain.metrics import CENTERED, SCORES

# Only results on the run's current definition of a set, and only versions that stand.
_STANDING = """
    FROM results r
    JOIN eval_sets e ON e.run = r.run AND e.name = r.eval_set AND e.digest = r.eval_digest AND e.current = 1
    LEFT JOIN checkpoints c ON c.run = r.run AND c.path = r.checkpoint AND c.digest = r.checkpoint_digest
    WHERE r.superseded = 0
"""
#: When the version of a result was observed; a result whose checkpoint is not known counts from when it was saved.
_OBSERVED = "coalesce(c.observed_at, r.saved_at)"

#: The metrics of `scores`: name -> (value, standard error) in SQL, over the columns of `results` and `task_items`.
SCORE_SQL: dict[str, tuple[str, str]] = {
    **{metric.key: (metric.value, metric.own_stderr or "NULL") for metric in SCORES.values()},
    CENTERED: (
        "(accuracy - random_baseline) / nullif(1 - random_baseline, 0)",
        "accuracy_stderr / nullif(1 - random_baseline, 0)",
    ),
}
_METRICS = " UNION ALL ".join(f"SELECT '{name}' AS metric" for name in SCORE_SQL)
_VALUE, _STDERR = (
    "CASE m.metric " + " ".join(f"WHEN '{name}' THEN {pair[place]}" for name, pair in SCORE_SQL.items()) + " END"
    for place in (0, 1)
)
# The newest version of each step; every file without a step by itself.
_SCORES = f"""
SELECT run, checkpoint, step, eval_set, metric, value, stderr, weights FROM (
    SELECT v.run, v.checkpoint, v.step, v.eval_set, m.metric, {_VALUE} AS value, {_STDERR} AS stderr, v.weights
    FROM (
        SELECT r.*, t.accuracy_norm_stderr, t.bits_per_byte_stderr, t.ppl_item,
               row_number() OVER (PARTITION BY r.run, r.eval_set, r.weights, r.step,
                                               CASE WHEN r.step IS NULL THEN r.checkpoint END
                                  ORDER BY {_OBSERVED} DESC, r.id DESC) AS version
        {_STANDING.replace("WHERE", "LEFT JOIN task_items t ON t.result_id = r.id WHERE")}
    ) AS v CROSS JOIN ({_METRICS}) AS m WHERE v.version = 1
) AS scored WHERE value IS NOT NULL
"""
# sqrt(variance) by Newton's method from 1: an SQLite may be built without the function sqrt.
_ERROR = """
(WITH RECURSIVE newton(n, x) AS (
    SELECT 0, CAST(1 AS DOUBLE PRECISION) UNION ALL SELECT n + 1, (x + means.variance / x) / 2 FROM newton WHERE n < 40
) SELECT CASE WHEN means.variance = 0 THEN 0.0 ELSE x END FROM newton WHERE n = 40)
"""

VIEWS: dict[str, str] = {
    "curve": f"""
SELECT run, eval_set, step, loss, ppl, bits_per_byte, accuracy, accuracy_norm FROM (
    SELECT r.run, r.eval_set, r.step, r.loss, r.ppl, r.bits_per_byte, r.accuracy, r.accuracy_norm,
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
    "scores": _SCORES,
    "suites": f"""
SELECT run, suite, checkpoint, step, CASE WHEN members = expected THEN mean END AS value, members, expected, weights,
       CASE WHEN members = expected AND errors = expected THEN {_ERROR} END AS stderr
FROM (
    SELECT s.run, e.suite, s.checkpoint, s.step, s.weights, avg(s.value) AS mean, count(*) AS members,
           count(s.stderr) AS errors, sum(s.stderr * s.stderr) / (count(*) * count(*)) AS variance,
           (SELECT count(*) FROM eval_sets x WHERE x.run = s.run AND x.suite = e.suite AND x.current = 1) AS expected
    FROM ({_SCORES}) AS s
    JOIN eval_sets e ON e.run = s.run AND e.name = s.eval_set AND e.current = 1 AND e.suite IS NOT NULL
    WHERE s.metric = 'accuracy_centered'
    GROUP BY s.run, e.suite, s.checkpoint, s.step, s.weights
) AS means
""",
    "sample_texts": """
SELECT s.run, c.path AS checkpoint, c.step, s.name, s.position, s.prompt, s.text, s.tokens, s.ended, s.note, s.mode,
       s.temperature, s.top_k, s.top_p, s.seed, s.max_new_tokens, s.tokenizer, c.weights, s.checkpoint_id, s.at
FROM samples s
JOIN checkpoints c ON c.id = s.checkpoint_id AND c.model_digest = s.model_digest AND c.undone = 0
     AND (c.content_digest IS NULL OR s.content_digest IS NULL OR c.content_digest = s.content_digest)
JOIN eval_sets e ON e.run = s.run AND e.name = s.name AND e.digest = s.digest AND e.current = 1
WHERE NOT EXISTS (  -- CASE: SQLite then looks by run and step, or by run and path, never through all later versions
    SELECT 1 FROM checkpoints o WHERE o.run = c.run AND o.step = c.step AND CASE WHEN o.path = c.path
    AND (o.observed_at > c.observed_at OR (o.observed_at = c.observed_at AND o.id > c.id)) THEN 1 END = 1
) AND NOT EXISTS (
    SELECT 1 FROM checkpoints o WHERE c.step IS NULL AND o.run = c.run AND o.path = c.path AND CASE WHEN o.step IS NULL
    AND (o.observed_at > c.observed_at OR (o.observed_at = c.observed_at AND o.id > c.id)) THEN 1 END = 1
)
""",
    "queue": """
SELECT j.id AS job, j.run, c.path AS checkpoint, c.step, e.name AS eval_set, j.state, j.priority,
       j.charged AS attempts, j.not_before, j.reason, j.enqueued_at, j.claimed_at, j.launch_id AS launch
FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id JOIN eval_sets e ON e.id = j.eval_set_id
WHERE j.state IN ('queued', 'running')
""",
    "failures": """
SELECT j.run, c.path AS checkpoint, c.step, e.name AS eval_set, j.kind, j.reason, j.charged AS attempts,
       j.finished_at AS at, j.hint
FROM jobs j JOIN checkpoints c ON c.id = j.checkpoint_id JOIN eval_sets e ON e.id = j.eval_set_id
WHERE j.state = 'failed' AND e.kind <> 'sample'
UNION ALL
SELECT k.run, k.path AS checkpoint, NULL AS step, NULL AS eval_set, k.kind, k.reason, 0 AS attempts, k.at,
       k.hint
FROM candidates k WHERE k.final = 1
""",
}

MEANINGS: dict[str, str] = {
    "curve": "The curve of single checkpoints (no means): one row for each step, its newest version, on the set as it "
    "is defined now.",
    "latest": "The newest result of each run and set.",
    "best": "The lowest finite loss of each run and set. (`ckptwatch results --best` also considers the noise.)",
    "scores": "Every metric in long form, one row for each: `loss`, `ppl`, `bits_per_byte`; of tasks also `accuracy`, "
    "`accuracy_norm`, `accuracy_centered` (0 is guessing, 1 is all correct) and `ppl_item`. The newest version of each "
    "step; means of checkpoints have `weights`.",
    "suites": "The aggregate of each suite: the mean of its members' `accuracy_centered` and its standard error. NULL "
    "until all `expected` members have a result.",
    "sample_texts": "Generated texts of the versions that stand, one row for each prompt, for the prompts and settings "
    "that the run's `[[sample]]` sections have now.",
    "queue": "Jobs that wait or run.",
    "failures": "Failed losses and tasks and irregular files alike, with the reason and what to do about it. Failed "
    "samples are not in it: `ckptwatch queue list --failed` shows them.",
}
