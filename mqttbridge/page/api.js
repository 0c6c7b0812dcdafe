// Talking to the daemon's API.

import { forget, token } from "./session.js";

/** What the API refused. `status` is 0 when nobody answered; `errors` are {property, detail}; `body` is the answer. */
export class ApiError extends Error {
  constructor(status, detail, body = {}) {
    super(detail);
    this.status = status;
    this.errors = Array.isArray(body.errors) ? body.errors : [];
    this.body = body;
  }
}

const DEADLINE = 60_000; // ms; a test of a slow broker takes a while

/** Ask the API. Gives the JSON of the answer (null if it has none); throws ApiError. */
export async function call(method, path, { body, ifMatch, signal } = {}) {
  const headers = { Accept: "application/json" };
  if (token()) headers.Authorization = `Bearer ${token()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (ifMatch) headers["If-Match"] = `"${ifMatch}"`;
  const limit = AbortSignal.timeout(DEADLINE);
  let response, text;
  try {
    response = await fetch(path, {
      method, headers, cache: "no-store", credentials: "omit", redirect: "error",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "The daemon does not answer.");
  }
  const data = parsed(text);
  if (response.ok) return data;
  if (response.status === 401 && path !== "/session") forget("The token is not valid any more. Sign in again.");
  const detail = data?.detail || data?.reason || `The daemon answered ${response.status} ${response.statusText}.`;
  throw new ApiError(response.status, sentence(detail), data ?? {});
}

/** Give the path of something by its id, and a query. */
export function path(...parts) {
  const query = typeof parts.at(-1) === "object" ? parts.pop() : {};
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  return `/${parts.map(encodeURIComponent).join("/")}${search}`;
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

/** Begin a text with a capital and end it with a full stop. */
export function sentence(text) {
  const trimmed = String(text).trim();
  if (!trimmed) return "";
  const first = /^[a-z]+(?=[\s,;:.]|$)/.test(trimmed) ? trimmed[0].toUpperCase() + trimmed.slice(1) : trimmed;
  return /[.!?…:]$/.test(first) ? first : `${first}.`;
}
