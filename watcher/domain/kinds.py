"""What each job state, failure kind and cancelled kind means, in a sentence each: for people and the reference."""

from __future__ import annotations

STATES: dict[str, str] = {
    "queued": "Waits for a claim, perhaps not before a certain time. A crash leaves it as it is.",
    "running": "In a launch, with a claim token. A crash leaves an open attempt; it is ended, the job queued again.",
    "succeeded": "Has its row in `results`; also where the loss is not finite.",
    "failed": "Has its kind and reason. `ckptwatch queue retry JOB` queues it again.",
    "cancelled": "Is not needed, or not wanted. `ckptwatch queue retry JOB` queues it again.",
}

FAILURES: dict[str, str] = {
    "corrupt": "The file is damaged, or was never finished.",
    "unsafe": "The model's own part of the file holds something that only running code could read.",
    "unsupported": "The format or the model is not one that can be evaluated, or its configuration is missing.",
    "shape": "Weights, configuration and window do not fit one another.",
    "data": "The validation data cannot be measured on with this model.",
    "vanished": "The file was removed before it could be read.",
    "oom": "Not even one window fits into memory.",
    "timeout": "Exceeded `launch.timeout_s`, or made no progress for `launch.stall_s`.",
    "crash": "The worker ended without an outcome.",
    "protocol": "The worker's outcome file could not be understood.",
}

CANCELLED: dict[str, str] = {
    "superseded": "The file got a newer version before or while this one was evaluated.",
    "skipped": "Excluded by the settings (`every`, `backfill`).",
    "by_user": "Cancelled with `ckptwatch queue cancel`.",
}
