"""The evaluation: loss, accumulation, metrics, batch size, threads, process group, self-check."""
