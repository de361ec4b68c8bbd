"""How similar each candidate is to the tasks."""
