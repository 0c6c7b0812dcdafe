"""Which connections get an uplink: pure. Floor 2."""
