"""Many recipes as one suite: every model, size and task, what they share trained once, and one page of it all."""
