"""The process that torchrun starts: reads the request, evaluates items, writes outcome files."""
