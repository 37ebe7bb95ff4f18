"""Which clients to contact first."""
