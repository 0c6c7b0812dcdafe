"""Examines one broker connection step by step, and says in plain words what fails and what to do.

Called by the command line alone. It has links of its own under a client id of its own, and never touches the running
daemon's. `judge`, `brokers`, `certificates`, `findings` and `show` are pure; `examine` does the steps.
"""
