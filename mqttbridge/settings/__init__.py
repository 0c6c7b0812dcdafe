"""The configuration: schema, the only YAML reader, secrets. Floor 1."""
