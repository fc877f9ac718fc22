"""MLflow mirrors the record of a study and is never read for results."""
