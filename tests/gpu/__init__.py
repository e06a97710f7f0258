"""Checks of the core on a real accelerator: `make test-gpu`. torch, numpy and tiktoken suffice."""
