"""What people and programs steer with: health and metrics over HTTP. Floor 4."""
