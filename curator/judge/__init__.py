"""Judges: what they are asked, what they say, and how right they are."""
