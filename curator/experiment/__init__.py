"""The experiment: arms x tasks x seeds from one base, trained and evaluated."""
