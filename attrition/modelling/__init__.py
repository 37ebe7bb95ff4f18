"""Training rows to a calibrated model, its metrics and its explanations."""
