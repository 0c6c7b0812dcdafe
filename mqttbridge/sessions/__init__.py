"""One task per broker connection: state machine, window, runner. Floor 3."""
