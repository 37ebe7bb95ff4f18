"""Who may use the API: roles, tokens, users, sessions, limits and the audit log."""
