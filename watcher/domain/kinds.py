"""One sentence for each job state, failure kind and cancelled kind, for the reference and the dashboard."""

from __future__ import annotations

STATES: dict[str, str] = {
    "queued": "Ready to be claimed, at `not_before` at the earliest. Not affected by a crash.",
    "running": "In a launch, with a claim token. After a crash its open attempt is ended and the job queued again.",
    "succeeded": "Has a row in `results`, even if the loss is not finite.",
    "failed": "Has a kind and a reason. `ckptwatch queue retry JOB` queues it again.",
    "cancelled": "Not needed, or cancelled by a user. `ckptwatch queue retry JOB` queues it again.",
}

FAILURES: dict[str, str] = {
    "corrupt": "The file is damaged or incomplete.",
    "unsafe": "The model's part of the file cannot be read without running code.",
    "unsupported": "The format or model family is not supported, or the configuration is missing.",
    "shape": "Weights, configuration and window length do not match.",
    "data": "The validation data does not fit the model.",
    "vanished": "The file was removed before it could be read.",
    "oom": "A single window does not fit into memory.",
    "timeout": "Exceeded `launch.timeout_s`, or made no progress for `launch.stall_s`.",
    "crash": "The worker ended without an outcome.",
    "protocol": "The worker's outcome file is invalid.",
}

CANCELLED: dict[str, str] = {
    "superseded": "A newer version of the file appeared before the evaluation ended.",
    "skipped": "Excluded by the settings (`every`, `backfill`).",
    "by_user": "Cancelled with `ckptwatch queue cancel`.",
}
