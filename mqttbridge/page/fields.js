// The fields of a connection: what is asked, in which group, and for which protocol. Help comes from the API's schema.

const secure = (values) => values["configuration.protocol"] !== "TCP";

const c = (name) => `configuration.${name}`;

/** In the order of the form. `help` here goes before that of the schema; `when(values)`: shown only then. */
export const FIELDS = [
  { property: "name", group: "Connection", label: "Name", kind: "text", required: true, help: "A name for people." },
  { property: "id", group: "Connection", label: "Id", kind: "text", onlyNew: true, placeholder: "acme", help: "Made of the name, unless you give one. It names the file, the account in the journal and the metrics; it stays as it is. 1 to 64 letters, digits, dots, - and _." },
  { property: c("description"), group: "Connection", label: "Description", kind: "text", whole: true, help: "Free text." },
  { property: "active", group: "Connection", label: "Active", kind: "check", whole: true, initial: true, help: "An inactive connection gets no uplinks and is not connected." },

  { property: c("protocol"), group: "Broker", label: "Protocol", kind: "choice", required: true, initial: "SSL", options: [["SSL", "SSL: MQTT over TLS"], ["WSS", "WSS: WebSocket over TLS"], ["TCP", "TCP: not encrypted"]], help: "SSL and WSS check the broker's certificate, always." },
  { property: c("hostName"), group: "Broker", label: "Host", kind: "text", required: true, placeholder: "broker.example.com:8883", help: "Host, or host:port, without http:// or mqtt:// in front. Ports if none is given: 8883 (SSL), 1883 (TCP), 443 (WSS)." },
  { property: c("webSocketPath"), group: "Broker", label: "WebSocket path", kind: "text", placeholder: "/mqtt", when: (values) => values["configuration.protocol"] === "WSS" },
  { property: c("username"), group: "Broker", label: "User name", kind: "text", help: "If the broker asks for one." },
  { property: c("password"), group: "Broker", label: "Password", kind: "secret", help: "Kept in a file that the daemon alone can read, and never shown again." },

  { property: c("trustedCaCertificate"), group: "Certificates", label: "CA certificate", kind: "pem", pem: "certificate", when: secure, whole: true, help: "PEM file: the authorities to trust instead of the system's. Leave it out for a broker with a public certificate." },
  { property: c("certificate"), group: "Certificates", label: "Client certificate", kind: "pem", pem: "certificate", when: secure, help: "PEM file, for mutual TLS." },
  { property: c("privateKey"), group: "Certificates", label: "Private key", kind: "pem", pem: "key", when: secure, help: "PEM file, PKCS#8 or PKCS#1, without a passphrase: the key of the client certificate." },

  { property: c("uplinkTopicPattern"), group: "Topics", label: "Uplink topic", kind: "text", required: true, initial: "mqtt/things/{DevEUI}/uplink", help: "Where each uplink is published. {DevEUI} stands for that field of the uplink; others work as well, such as {CustomerID}." },
  { property: c("downlinkTopicPattern"), group: "Topics", label: "Downlink topic", kind: "text", placeholder: "mqtt/things/{DevEUI}/downlink", help: "Where downlinks are taken from; it must lead back to the DevEUI. Without it none are taken." },
  { property: c("downlinkReceiptTopicPattern"), group: "Topics", label: "Receipt topic", kind: "text" },

  { property: c("uplinkTimeValidity"), group: "Advanced", label: "Uplinks are valid for", kind: "duration", placeholder: "72h", short: true },
  { property: c("reconnectStrategy"), group: "Advanced", label: "Reconnecting", kind: "choice", options: [["", "Default"], ["CALM", "CALM"], ["NORMAL", "NORMAL"], ["AGGRESSIVE", "AGGRESSIVE"]] },
  { property: c("mqttVersion"), group: "Advanced", label: "MQTT version", kind: "choice", options: [["", "Default"], ["3.1.1", "3.1.1"], ["5", "5"]] },
  { property: c("clientId"), group: "Advanced", label: "Client id", kind: "text", help: "Default: mqttbridge-<id>. No two clients of a broker may share one." },
  { property: c("qos"), group: "Advanced", label: "QoS", kind: "choice", numeric: true, options: [["", "Default"], ["0", "0: at most once"], ["1", "1: at least once"], ["2", "2: exactly once"]] },
  { property: c("maxInflight"), group: "Advanced", label: "Uplinks in flight", kind: "number", placeholder: "100", min: 1, max: 65535 },
  { property: c("keepAlive"), group: "Advanced", label: "Keep alive", kind: "duration", placeholder: "20s", short: true },
  { property: c("connectionTimeout"), group: "Advanced", label: "Connection timeout", kind: "duration", placeholder: "5s", short: true },
  { property: c("actionTimeout"), group: "Advanced", label: "Action timeout", kind: "duration", placeholder: "1s", short: true },
  { property: c("alpn"), group: "Advanced", label: "ALPN", kind: "list", placeholder: "x-amzn-mqtt-ca", when: secure },
  { property: c("downlinkPort"), group: "Advanced", label: "Downlink FPort", kind: "number", min: 1, max: 224 },
  { property: c("downlinkAsId"), group: "Advanced", label: "Downlink AS id", kind: "text", placeholder: "TWA_1.2.AS" },
  { property: c("downlinkAsKey"), group: "Advanced", label: "Downlink AS key", kind: "secret" },
  { property: c("downlinkDevices"), group: "Advanced", label: "Downlink devices", kind: "list", placeholder: "0018B200*" },
  { property: c("downlinkRate"), group: "Advanced", label: "Downlinks a second", kind: "number", placeholder: "100", min: 1, max: 100000 },
  { property: c("downlinkEnabled"), group: "Advanced", label: "Take downlinks", kind: "check", initial: true, help: "Takes downlinks from the downlink topic." },
  { property: c("retain"), group: "Advanced", label: "Retain", kind: "check", initial: false, help: "Publishes with the retain flag: the broker keeps the last uplink of each topic." },
  { property: c("sendMetadata"), group: "Advanced", label: "Without the DevEUI_uplink root", kind: "check", initial: false, help: "Sends uplinks alone, each without its root." },
  { property: c("sendRawDecodedFormat"), group: "Advanced", label: "Decoded payload alone", kind: "check", initial: false, help: "Sends the decoded payload field alone, where there is one." },
  { property: c("debug"), group: "Advanced", label: "Log every uplink", kind: "check", initial: false, help: "Writes a log line for each uplink of this connection." },
];

export const GROUPS = ["Connection", "Broker", "Certificates", "Topics", "Advanced"];

/** Find the schema's properties of a connection's `configuration`, wherever they stand in it. */
export function configurationProperties(schema) {
  const candidates = [schema, schema?.properties?.configuration, ...Object.values(schema?.$defs ?? {})];
  return candidates.map((one) => one?.properties ?? {}).find((one) => one.hostName) ?? {};
}
