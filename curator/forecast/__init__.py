"""The plan and the cost of a recipe, before anything is trained."""
