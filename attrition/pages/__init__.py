"""The pages that people read: today, the clients, and the state of model, data and system."""
