"""`python -m mqttbridge` is the command `mqttbridge`."""

from mqttbridge.cli import main

main()
