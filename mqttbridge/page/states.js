// What the states look like: a colour and always the word.

import { h, setClass, setText } from "./dom.js";

const TONES = {
  OPENED: "good", OPENING: "busy", AUTHENTICATING: "busy", CLOSING: "busy",
  UNREACHABLE: "bad", AUTHENTICATION_FAILED: "bad", CLOSED: "bad",
  delivered: "good", queued: "busy", expired: "bad", parked: "bad", dropped: "bad",
  ok: "good", warning: "warn", failed: "bad", error: "bad",
};

/** A badge: `{node, update(word)}`. */
export function badge(word) {
  const node = h("span");
  const update = (now) => {
    setClass(node, `state ${TONES[now] ?? ""}`.trim());
    setText(node, now.replaceAll("_", " "));
  };
  update(word);
  return { node, update };
}
