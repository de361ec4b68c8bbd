"""Judges: what they read, what they say, and how right they are."""
