"""Documents of network servers, bytes to model: pure. Floor 2."""
