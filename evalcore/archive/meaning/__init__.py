"""The meaning of a payload: family, configuration, state dicts, step."""
