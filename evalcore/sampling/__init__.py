"""Samples: prompts -> texts that a checkpoint generates, greedy or drawn with a seed."""
