"""Supervised fine-tuning and greedy answers."""

PRELOAD = "curator.train.trainer"
"""The module that workers load before their first job."""
