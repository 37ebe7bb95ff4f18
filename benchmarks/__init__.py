"""Speed, scale and quality, measured side by side with something; nothing of it runs in the tests."""
