"""The model in production, fast enough to answer one request at a time."""
