"""The commands that ask a running daemon over its Unix socket. For the command line alone."""
