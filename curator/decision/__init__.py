"""What an experiment's verdicts say: tables, intervals and one decision. Nothing here trains a model or needs torch."""
