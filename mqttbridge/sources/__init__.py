"""Intake from network servers: HTTP and MQTT. Floor 3."""
