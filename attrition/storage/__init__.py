"""Storage that survives a crash: files, records, the history, permissions."""
