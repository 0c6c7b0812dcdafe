"""The way back to the network servers. Floor 3."""
