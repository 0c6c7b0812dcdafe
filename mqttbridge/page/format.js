// Times, numbers and sizes for people.

const numbers = new Intl.NumberFormat("en");
const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const full = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const short = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const UNITS = [["d", 86_400_000], ["h", 3_600_000], ["m", 60_000], ["s", 1000]];

export const count = (value) => (value === null || value === undefined ? "–" : numbers.format(value));
export const hourMinute = (text) => short.format(new Date(text));

/** The time of day; with the date, unless it was today. */
export function moment(text) {
  const date = new Date(text);
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : full.format(date);
}

/** How long ago, or in how long: `12 s`, `5 min`, `3 h`, `4 days`. */
export function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

export const ago = (text) => (text ? `${span(Date.now() - Date.parse(text))} ago` : "–");

export function ahead(text) {
  const left = Date.parse(text) - Date.now();
  return left > 1500 ? `in ${span(left)}` : "now";
}

/** Uplinks a second. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value === 0 ? "0/s" : value < 0.1 ? `${numbers.format(Math.round(value * 600) / 10)}/min` : `${numbers.format(Math.round(value * 10) / 10)}/s`;
}

/** A duration as the configuration file spells it: milliseconds become `5s` or `72h`; text stays. */
export function duration(value) {
  if (typeof value !== "number") return value ?? "";
  for (const [unit, size] of UNITS) {
    if (value && value % size === 0 && !(unit === "d" && value < 7 * size)) return `${value / size}${unit}`;
  }
  return `${value}ms`;
}

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
