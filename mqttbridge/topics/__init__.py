"""Topic patterns: compile, render, and match back. Floor 1, pure.

Settings compile every pattern while loading, sessions render with it, downlinks match with it. Rendering never lets
a value of a document out of its topic level, and never shows such a value raw in an error.

Rules (design, section 3): `{DevEUI}` is a field, also written `<DevEUI>`; `{CustomerData.tags.0}` is a path, with
numbers for places in arrays; `{$..tags[0]}` is JSONPath (RFC 9535), of which the first match counts;
`{a|b|'none'}` takes the first that exists and is not null. A level may mix text and placeholders. A path is looked up
in the document's content (inside its root key, such as DevEUI_uplink) first, then in the whole document; a JSONPath
in the whole document first, then in the content.
"""

from mqttbridge.topics.compiling import compile_pattern
from mqttbridge.topics.parts import MAX_TOPIC_BYTES, UNKNOWN
from mqttbridge.topics.pattern import Pattern

__all__ = ["MAX_TOPIC_BYTES", "UNKNOWN", "Pattern", "compile_pattern"]
