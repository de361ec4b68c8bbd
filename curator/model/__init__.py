"""A causal model: loading it, its chat template, its losses and its size."""
