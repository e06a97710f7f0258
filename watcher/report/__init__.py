"""Rows into what people look at: tables, JSON, CSV, Markdown, curves, comparisons. Never reads the database."""
