"""Causal models: loading, chat templates, losses and size."""
