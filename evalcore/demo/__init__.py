"""The demo's trainer and its text: a small GPT learns the log of a harbour. Scripts; imported by nothing."""
