"""watcher: the daemon that finds checkpoints, queues them, launches evaluations and keeps the results.

It never imports torch, numpy or tiktoken, and never writes into the folder it watches.
"""
