"""Gives the page, gives the orders, and takes them.

An ordinary server: it tells the broker nothing, and asks it for one thing, the cursor.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from orders import Orders

from fanfare import Fanfare, FanfareError

PAGE = Path(__file__).parent / "page"
TYPES = {"index.html": "text/html", "orders.js": "text/javascript", "orders.css": "text/css"}
BROKER = os.environ["FANFARE_URL"]
fanfare = Fanfare(BROKER, key=os.environ["FANFARE_API_KEY"], retry_for=5)


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.removeprefix("/") or "index.html"
        if name == "orders":
            # First the place, then the orders: what is committed in between is in both, and nothing in neither.
            try:
                since = fanfare.cursor()
            except FanfareError as error:
                return self.answer(503, "text/plain", str(error))
            with closing(Orders()) as orders:
                return self.answer(200, "application/json", json.dumps({"since": since, "orders": orders.all()}))
        if name in TYPES:
            return self.answer(200, TYPES[name], (PAGE / name).read_text().replace("http://127.0.0.1:8080", BROKER))
        return self.answer(404, "text/plain", "there is nothing here")

    def do_PUT(self) -> None:
        try:
            order = read(self.path, self.rfile.read(min(int(self.headers["Content-Length"]), 10_000)))
        except (ValueError, TypeError, KeyError):
            return self.answer(400, "text/plain", 'PUT /orders/ID: {"item":"socks","quantity":2,"shipped":false}')
        with closing(Orders()) as orders:
            orders.put(order)
        return self.answer(200, "application/json", json.dumps(order))

    def answer(self, status: int, content_type: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{content_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def read(path: str, body: bytes) -> dict[str, Any]:
    """An order as it was asked for. Raises where it is none."""
    said = json.loads(body)
    name = path.removeprefix("/orders/")
    item, quantity, shipped = str(said["item"]).strip()[:60], int(said["quantity"]), bool(said["shipped"])
    if not (name.isascii() and name.replace("-", "").isalnum() and len(name) <= 60 and item and 0 < quantity < 1000):
        raise ValueError(path)
    return {"id": name, "item": item, "quantity": quantity, "shipped": shipped}


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Server)
    print(f"the page is at http://127.0.0.1:{server.server_port}/", flush=True)  # noqa: T201 what `examples/run` waits for
    server.serve_forever()
