// The departures of an airport, as they stand. All that is live are four hooks; what is shown heals by itself.

import { createElement, StrictMode, useMemo, useState } from "react";
import { createRoot } from "react-dom/client";
import { Fanfare } from "fanfare";
import { FanfareProvider, useConnection, useLatest, useMap } from "fanfare/react";
import htm from "htm";

const html = htm.bind(createElement);
const AIRPORTS = { JFK: "John F. Kennedy", LGA: "La Guardia", EWR: "Newark" };
const GROUPS = { boarding: "Boarding", departed: "In the air", cancelled: "Cancelled" };

function Board() {
  const [airport, setAirport] = useState("JFK");
  const clock = useLatest("clock");
  const day = useLatest(`boards.${airport}`);
  const flights = useMap(`flights.${airport}.*`);
  const places = useMap("airports.*");
  const now = clock.data && new Date(`${clock.data.time}Z`);
  return html`
    <header>
      <div>
        <h1>Departures from New York</h1>
        <p className="now">${now?.toLocaleDateString("en", { timeZone: "UTC", dateStyle: "full" })}</p>
      </div>
      <time>${clock.data?.time.slice(11) ?? "––:––"}</time>
    </header>
    <nav role="radiogroup" aria-label="Airport">
      ${Object.entries(AIRPORTS).map(([code, name]) => html`
        <label key=${code}><input type="radio" name="airport" checked=${code === airport} onChange=${() => setAirport(code)} /><b>${code}</b> <span>${name}</span></label>`)}
    </nav>
    <main aria-busy=${flights.stale} className=${flights.stale ? "stale" : ""}>
      <dl>
        <${Figure} name="departed" value=${day.data?.departed} />
        <${Figure} name="cancelled" value=${day.data?.cancelled} />
        <${Figure} name="mean delay" value=${day.data?.mean_delay} unit="min" />
      </dl>
      <${Flights} entries=${flights.entries} places=${places.entries} now=${now} />
    </main>
    <${Connection} />`;
}

function Figure({ name, value, unit }) {
  return html`<div><dt>${name}</dt><dd>${value ?? "–"}${value != null && unit && html` <small>${unit}</small>`}</dd></div>`;
}

function Flights({ entries, places, now }) {
  const groups = useMemo(() => {
    const rows = [...entries].map(([topic, { data }]) => ({ flight: topic.split(".")[2], ...data }));
    return Object.groupBy(rows.sort((one, other) => one.planned.localeCompare(other.planned) || one.flight.localeCompare(other.flight)), ({ status }) => status);
  }, [entries]);
  return html`
    <table>
      <thead><tr><th scope="col">Planned</th><th scope="col">Flight</th><th scope="col">To</th><th scope="col">Status</th></tr></thead>
      ${Object.entries(GROUPS).filter(([status]) => groups[status]).map(([status, title]) => html`
        <tbody key=${status} className=${status}>
          <tr><th colSpan="4" scope="rowgroup">${title} <small>${groups[status].length}</small></th></tr>
          ${groups[status].map((row) => html`<${Flight} key=${row.flight} ...${row} place=${places.get(`airports.${row.to}`)?.data.name} now=${now} />`)}
        </tbody>`)}
    </table>`;
}

function Flight({ flight, planned, to, place, status, delay, minutes, now }) {
  return html`
    <tr data-flight=${flight}>
      <td>${planned}</td>
      <td>${flight}</td>
      <td><b>${to}</b> <span className="place">${place}</span></td>
      <td>${status === "departed" ? html`<${InTheAir} ...${{ planned, delay, minutes, now }} />` : status}</td>
    </tr>`;
}

function InTheAir({ planned, delay, minutes, now }) {
  const [hours, past] = planned.split(":");
  const midnight = new Date(now);
  const left = midnight.setUTCHours(hours, past) + delay * 60_000;
  // One that left before midnight did so yesterday.
  const flown = ((now - left) / 60_000 + 1440) % 1440;
  return html`
    <span className=${delay > 15 ? "late" : ""}>${delay > 0 ? `${delay} min late` : "on time"}</span>
    ${minutes && html`<progress max=${minutes} value=${Math.min(flown, minutes)} aria-label="Way flown" />`}`;
}

function Connection() {
  const { state } = useConnection();
  return html`<footer role="status" data-state=${state}>${state}</footer>`;
}

createRoot(document.querySelector("#root")).render(html`
  <${StrictMode}>
    <${FanfareProvider} client=${new Fanfare()}><${Board} /><//>
  <//>`);
