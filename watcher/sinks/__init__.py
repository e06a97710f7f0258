"""Destinations of results: files and trackers. They read from the outbox and never delay a job."""
