"""Read tables of SQLite and servers: in full, or what has changed since."""
