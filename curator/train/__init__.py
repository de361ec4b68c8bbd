"""Supervised fine-tuning and greedy answers."""
