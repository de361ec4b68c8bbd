"""Judges: what they read, the verdicts they give, and how accurate they are."""
