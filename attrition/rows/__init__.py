"""Accepted rows: whether a record is one of them, their store, and an account of every source."""
