"""Where results go on to: files, trackers, alerts. Fed from the outbox, never in a job's way."""
