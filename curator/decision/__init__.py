"""From an experiment's verdicts to tables, intervals and one decision. Nothing here trains a model or needs torch."""
