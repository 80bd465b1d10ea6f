"""The orders, in SQLite: what is true is what is committed here.

Each change puts the row and what is to be told of it (the outbox) into one transaction: both are there, or neither.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
  id TEXT PRIMARY KEY,
  item TEXT NOT NULL,
  quantity INTEGER NOT NULL,
  shipped INTEGER NOT NULL,
  version INTEGER NOT NULL DEFAULT 1
);
CREATE TABLE IF NOT EXISTS outbox (
  place INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
  topic TEXT NOT NULL,
  data TEXT NOT NULL
);
"""

PUT = """
INSERT INTO orders (id, item, quantity, shipped) VALUES (:id, :item, :quantity, :shipped)
ON CONFLICT (id) DO UPDATE
  SET item = excluded.item, quantity = excluded.quantity, shipped = excluded.shipped, version = version + 1
  WHERE (item, quantity, shipped) IS NOT (excluded.item, excluded.quantity, excluded.shipped)
RETURNING *
"""


class Orders:
    """A connection of its own; use it in one thread."""

    def __init__(self) -> None:
        path = os.environ.get("DATABASE") or Path(os.environ["WORK"]) / "orders.db"
        self._db = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.executescript(SCHEMA)

    def close(self) -> None:
        self._db.close()

    def put(self, order: dict[str, Any]) -> None:
        """Makes an order what it is to be. Asked for once more, it changes nothing and has nothing told."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            row = self._db.execute(PUT, order).fetchone()
            if row:
                told = (f"orders.{row['id']}", json.dumps(dict(row)))
                self._db.execute("INSERT INTO outbox (topic, data) VALUES (?, ?)", told)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def all(self) -> list[dict[str, Any]]:
        return [dict(row) for row in self._db.execute("SELECT * FROM orders ORDER BY rowid")]

    def untold(self) -> list[sqlite3.Row]:
        """What is still to be told, in the order of its commits."""
        return self._db.execute("SELECT * FROM outbox ORDER BY place LIMIT 100").fetchall()

    def told(self, place: int) -> None:
        self._db.execute("DELETE FROM outbox WHERE place = ?", (place,))
