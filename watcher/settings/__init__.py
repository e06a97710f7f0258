"""ckptwatch.toml: its sections (schema), how it is read (load), shown (masking) and documented (template)."""
