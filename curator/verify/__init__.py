"""The experiment: arms x tasks x seeds from one base, and what its answers say."""
