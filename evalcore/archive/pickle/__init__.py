"""The inert unpickler: opcodes, stack, tensors and values as records. Calls nothing."""
