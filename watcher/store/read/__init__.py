"""Queries: results, queue, dashboard, verdicts. Read only."""
