"""What each stage reads, calls and writes: the rooms of the house know nothing of each other or of the run folder."""
