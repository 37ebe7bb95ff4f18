"""What people enter: its contract, the Excel sheets to fill in, and the inbox that takes them back."""
