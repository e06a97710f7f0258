"""Containers: the zip directory and its records, safetensors, the legacy format."""
