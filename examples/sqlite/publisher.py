"""The relay: tells what the outbox says, in its order, and takes it out.

Killed between the two, the next one tells it again under the key that its transaction gave it, and the broker stores
it once.
"""

from __future__ import annotations

import json
import math
import os
import time

from orders import Orders

from fanfare import Fanfare

orders = Orders()
with Fanfare(os.environ["FANFARE_URL"], key=os.environ["FANFARE_API_KEY"], retry_for=math.inf) as fanfare:
    while True:
        rows = orders.untold()
        for row in rows:
            fanfare.publish(row["topic"], json.loads(row["data"]), key=row["key"])
            orders.told(row["place"])
        if not rows:
            time.sleep(0.03)
