"""MLflow's side of a study: it mirrors the record and is never read for results."""
