// Asking again and again, only while somebody looks.

import { ApiError } from "./api.js";
import { setText } from "./dom.js";

const failing = new Set();

function tell() {
  const why = failing.size ? "The daemon does not answer. What you see may be old; it is asked again." : "";
  setText(document.getElementById("health"), why);
}

/** Run `task` every `ms` until the signal; never twice at once, and not while the page is hidden. */
export function every(ms, task, signal) {
  let timer = 0;
  let running = false;
  const plan = () => {
    clearTimeout(timer);
    if (!signal.aborted && !document.hidden) timer = setTimeout(run, ms);
  };
  const run = async () => {
    clearTimeout(timer);
    if (running || signal.aborted || document.hidden) return;
    running = true;
    try {
      await task();
      failing.delete(run);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 0 || error.status >= 500) failing.add(run);
    } finally {
      running = false;
      tell();
      plan();
    }
  };
  const woken = () => (document.hidden ? clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", woken, { signal });
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    failing.delete(run);
    tell();
  });
  plan();
  return run;
}
