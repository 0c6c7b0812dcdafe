"""Acts as the other side does, to rehearse an integration: a network server, or a customer's application.

Called by the command line alone. It has links of its own, and never touches the running daemon's.
"""
