"""What a recipe will do and cost, before anything is trained."""
