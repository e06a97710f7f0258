"""Writes, one transaction per verb: register, enqueue, claim, record, retry, export."""
