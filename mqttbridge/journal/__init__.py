"""The durable queue. Floor 2."""
