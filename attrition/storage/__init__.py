"""Bytes that survive a crash: files, records, the history, permissions."""
