"""The REST API and the page: another way to edit the same files, and to look at what runs. Floor 4, above `control`."""
