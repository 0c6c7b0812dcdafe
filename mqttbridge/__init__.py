"""mqttbridge: the self-hosted MQTT connector for LoRaWAN.

The package is a house with floors (see docs/architecture.md): imports go down only. Start reading at
`daemon.py`, which builds everything, or at `model.py`, which everything speaks of.
"""

__version__ = "0.1.0"
