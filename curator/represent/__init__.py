"""Rows as unit vectors: hidden states, gradients or sentence embeddings, kept in caches that runs share."""
