"""Decide which rows are valid, and account for every record."""
