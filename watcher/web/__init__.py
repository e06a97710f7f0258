"""The dashboard: read-only pages over the database, with their JSON twins, live updates and metrics."""
