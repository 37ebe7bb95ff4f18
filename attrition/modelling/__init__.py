"""Rows to a model, and what the model says."""
