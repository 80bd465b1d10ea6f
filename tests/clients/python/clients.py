"""The common Python libraries as clients of a broker: each prints `live`, and then the data of each event, once, in order.

    clients.py LIBRARY ws://HOST:PORT http://HOST:PORT
"""

import asyncio
import json
import sys
import time
from urllib.parse import urlencode

import httpx
import httpx_sse
import websockets
from websockets.asyncio.client import connect

told = False


def live():
    global told
    if not told:
        print("live", flush=True)
    told = True


def handle(data):
    print(json.dumps(data), flush=True)


async def with_websockets(base):
    cursor = None
    while True:
        query = {"topic": "clients.>"} | ({"since": cursor} if cursor else {})
        try:
            # Answers pings by itself; its own find a way that is dead.
            async with connect(f"{base}/v1/ws?{urlencode(query)}", ping_interval=25) as socket:
                async for text in socket:
                    frame = json.loads(text)
                    if frame["op"] == "event":
                        handle(frame["data"])
                        if "id" in frame and not frame.get("snapshot") and not frame.get("conflated"):
                            cursor = frame["id"]  # now that it was handled
                    elif frame["op"] in ("live", "cursor"):
                        cursor = frame["cursor"]
                        live()
        except (OSError, websockets.WebSocketException):
            pass  # tried again
        await asyncio.sleep(1)


def with_httpx_sse(base):
    last = ""
    # Reading ends after 5 s without this, and a heartbeat comes every 25 s.
    http = httpx.Client(timeout=httpx.Timeout(10, read=60))
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with httpx_sse.connect_sse(http, "GET", f"{base}/v1/sse", params={"topic": "clients.>"}, headers=headers) as source:
                source.response.raise_for_status()
                for event in source.iter_sse():
                    if event.event == "fanfare.live":
                        live()
                    elif event.event == "message" and event.data:  # blocks without data are handed out too
                        handle(json.loads(event.data)["data"])
                    last = event.id or last
        except httpx.HTTPError:
            pass  # tried again: it does not come back by itself
        time.sleep(1)


if sys.argv[1] == "websockets":
    asyncio.run(with_websockets(sys.argv[2]))
else:
    with_httpx_sse(sys.argv[3])
