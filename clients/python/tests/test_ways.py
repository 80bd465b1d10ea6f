"""Where WebSocket does not come through (R14, R20, R21)."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

import pytest
from broker import Broker, eventually
from conftest import Start
from road import Road
from test_credentials import KEY, SECURED, Tokens

from fanfare import Event, Fanfare, Refused, Unavailable, websocket
from fanfare.failure import Failure
from fanfare.way import STREAM_SECONDS, Transport, Way

MOST = 60.0
BAD_REQUEST = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\nhuh?"


def test_r21_a_proxy_that_refuses_websocket_is_gone_through_by_a_stream(broker: Broker, road: Road) -> None:
    road.refuse(BAD_REQUEST, only=b"Upgrade: websocket")
    with Fanfare(road.url) as fanfare:
        subscription = fanfare.subscribe("a", snapshot=True)
        subscription.wait_live(MOST)
        for number in range(20):
            fanfare.publish("a", number)
            if number % 6 == 0:
                road.cut()
        for number in range(20):
            event = subscription.next(MOST)
            assert isinstance(event, Event)
            assert event.data == number


def test_r21_a_proxy_that_swallows_websocket_is_gone_through_by_a_stream(
    broker: Broker, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the request and says nothing."""
    monkeypatch.setattr(websocket, "WELCOME_SECONDS", 0.5)
    with Fanfare(road.url) as fanfare:
        road.refuse(b"", only=b"Upgrade: websocket", holds=True)
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        fanfare.publish("a", 1)
        assert isinstance(subscription.next(MOST), Event)


def test_r14_what_is_no_broker_is_named(broker: Broker, road: Road) -> None:
    road.refuse(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")
    with Fanfare(road.url) as fanfare:
        with pytest.raises(Refused) as refused:
            next(fanfare.subscribe("a"))
        assert refused.value.code == "not_a_broker"
        with pytest.raises(Refused) as refused:
            fanfare.publish("a", 1)
        assert refused.value.code == "not_a_broker"


def test_r20_a_stream_is_opened_anew_before_its_token_expires(start: Start) -> None:
    secured = start(*SECURED)
    tokens = Tokens(3)
    with (
        Fanfare(secured.url, token=tokens, transport="stream") as fanfare,
        Fanfare(secured.url, key=KEY) as publisher,
    ):
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        for number in range(30):
            publisher.publish("a", number)
            event = subscription.next(MOST)
            assert isinstance(event, Event)
            assert event.data == number
            if tokens.count > 2:
                break
            time.sleep(0.3)
        assert tokens.count > 2


def test_r21_the_way_is_tried_again_after_ten_minutes() -> None:
    way = Way("auto")
    refused = Failure("final", "not_a_broker", "", 400)
    silence = Failure("undone", "no_welcome", "")
    assert not way.is_blocked(Failure("undone", "unreachable", ""), 0.0), "a broker that is away says nothing"
    assert not way.is_blocked(Failure("final", "unauthorized", "", 401), 0.0)
    assert not way.is_blocked(silence, 0.0)
    way.came_through()
    assert not way.is_blocked(silence, 0.0)
    assert way.is_blocked(silence, 0.0), "nothing came twice"
    assert way.is_stream(1.0)
    assert not way.is_stream(STREAM_SECONDS)
    assert way.is_blocked(refused, 700.0)
    assert not Way("websocket").is_blocked(refused, 0.0)
    assert Way("stream").is_stream(0.0)


def test_a_path_under_which_a_proxy_serves_the_broker_is_kept(road: Road) -> None:
    problem = b'{"code":"forbidden","detail":"no"}'
    road.refuse(b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n%s" % (len(problem), problem))
    with Fanfare(f"{road.url}/live/") as fanfare:
        with pytest.raises(Refused):
            fanfare.publish("a", 1)
        with pytest.raises(Refused):
            next(fanfare.subscribe("a"))
    assert road.lines == [b"POST /live/v1/events HTTP/1.1", b"GET /live/v1/ws HTTP/1.1"]


def test_a_certificate_is_checked_and_an_authority_may_be_given(start: Start, tmp_path: Path) -> None:
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    words += f" -addext subjectAltName=DNS:localhost -keyout {tmp_path}/key.pem -out {tmp_path}/cert.pem"
    subprocess.run(words.split(), check=True, capture_output=True)
    broker = start(f"server.tls_certificate={tmp_path}/cert.pem", f"server.tls_key={tmp_path}/key.pem")
    url = f"https://localhost:{broker.port}"
    ways: list[Transport] = ["websocket", "stream"]
    for transport in ways:
        given = ssl.create_default_context(cafile=f"{tmp_path}/cert.pem")
        with Fanfare(url, ssl=given, transport=transport) as fanfare:
            subscription = fanfare.subscribe("a", snapshot=True)
            subscription.wait_live(MOST)
            fanfare.publish("a", 1)
            assert isinstance(subscription.next(MOST), Event)
    with Fanfare(url, retry_for=0.5) as fanfare:
        with pytest.raises(Unavailable, match="CERTIFICATE"):
            fanfare.publish("a", 1)
        subscription = fanfare.subscribe("a")
        eventually("it says why", lambda: "CERTIFICATE" in subscription.state.reason)
