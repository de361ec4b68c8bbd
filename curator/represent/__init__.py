"""Rows as vectors."""
