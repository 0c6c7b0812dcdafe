"""Logging with redaction, metrics, events. Floor 2."""
