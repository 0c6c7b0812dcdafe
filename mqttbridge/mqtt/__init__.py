"""The only room that imports aiomqtt or paho: links, TLS, reason codes, backoff. Floor 2."""
