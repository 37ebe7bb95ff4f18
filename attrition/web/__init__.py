"""The API and the dashboard over HTTP."""
