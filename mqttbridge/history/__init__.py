"""What passed, for people who ask later: uplinks, how each ended, and events. Floor 2.

A file of its own beside the journal. It is never in the way of an uplink, and may lose some under pressure or in a
crash: nothing that keeps the promise may rely on it.
"""
