"""One module for each generated page; each has `page() -> str`, Markdown."""
