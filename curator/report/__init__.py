"""What a run found: `model.Report`, and its pages."""
