// Numbers, sizes and moments in words.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

/** A count: in full, or of many the first digits. */
export const count = (number) => number === undefined ? "–" : Math.abs(number) < 1e6 ? whole.format(number) : short.format(number);

/** So many a second, or any other figure that is small where it counts. */
export const figure = (number) => number === undefined ? "–" : Math.abs(number) < 100 && number % 1 ? tenth.format(number) : count(number);

export const percent = (part, all) => `${whole.format((100 * part) / all)} %`;

export function bytes(number) {
  if (number === undefined) return "–";
  let unit = 0;
  for (; number >= 1000 && unit < 4; unit++) number /= 1024;
  return `${unit ? number.toFixed(number < 10 ? 1 : 0) : whole.format(number)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A length of time, in its two largest units. */
export function duration(ms) {
  if (ms === undefined) return "–";
  if (ms < 1000) return `${figure(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
  const minutes = Math.floor(ms / 60_000), hours = Math.floor(minutes / 60), days = Math.floor(hours / 24);
  if (days) return `${days} d ${hours % 24} h`;
  return hours ? `${hours} h ${minutes % 60} min` : `${minutes} min ${Math.floor(ms / 1000) % 60} s`;
}

/** One of these, or several. */
export const many = (number, one, several = `${one}s`) => `${count(number)} ${number === 1 ? one : several}`;

let clock, day;

/** Has moments shown in UTC, or in this machine's time. */
export function showUtc(utc) {
  const zone = utc ? { timeZone: "UTC" } : {};
  clock = new Intl.DateTimeFormat("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, hourCycle: "h23", ...zone });
  day = new Intl.DateTimeFormat("en-CA", { year: "numeric", month: "2-digit", day: "2-digit", ...zone });
}
showUtc(false);

/** The time of day with milliseconds, or what came where that can't be read. */
export function timeOfDay(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? `${time}` : clock.format(date);
}

/** The same, with the date where it is not today's. */
export function moment(time) {
  const date = new Date(time);
  if (Number.isNaN(date.valueOf())) return `${time}`;
  return day.format(date) === day.format(new Date()) ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
}

/** How long ago, for who points at a moment. */
export const ago = (time) => {
  const ms = Date.now() - new Date(time);
  return ms < 0 ? `in ${duration(-ms)}` : `${duration(ms)} ago`;
};
