"""Tell people what needs attention: alerts, digests, and the channels that deliver them."""
