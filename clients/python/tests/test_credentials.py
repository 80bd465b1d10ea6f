"""Who we are: keys, tokens that are renewed in place, rights that are taken away (R13, R19)."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import threading
import time
from collections.abc import Callable

import httpx
import pytest
from broker import Broker, eventually
from conftest import Start
from road import Road

from fanfare import AsyncFanfare, Event, Fanfare, Refused, Unavailable

MOST = 60.0
KEY = "0123456789abcdef0123456789abcdef"
SECRET = "a secret of at least thirty-two bytes"
SECURED = (f"auth.api_keys={KEY}", f"auth.jwt_secret={SECRET}", "auth.leeway=0s")


@pytest.fixture
def secured(start: Start) -> Broker:
    """A broker with a key and with tokens."""
    return start(*SECURED)


def token(seconds: float, topic: str = "a") -> str:
    """A token of Ada's, signed with HS256 (RFC 7515)."""
    grants = {"subscribe": [topic], "publish": [topic]}
    claims = {"sub": "ada", "iat": time.time(), "exp": time.time() + seconds, "fanfare": grants}

    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    head = json.dumps({"alg": "HS256", "typ": "JWT"}).encode()
    signed = f"{part(head)}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


class Tokens:
    """Gives tokens, and counts how many."""

    def __init__(self, seconds: float) -> None:
        self.count = 0
        self.give: Callable[[], str] = lambda: token(seconds)

    def __call__(self) -> str:
        self.count += 1
        return self.give()


def test_a_key_publishes_and_subscribes(secured: Broker) -> None:
    with Fanfare(secured.url, key=KEY) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        fanfare.publish("a", 1)
        assert isinstance(next(subscription), Event)


def test_r13_nobody_is_refused_for_good(secured: Broker) -> None:
    with Fanfare(secured.url) as fanfare:
        with pytest.raises(Refused) as refused:
            fanfare.publish("a", 1)
        assert (refused.value.code, refused.value.status) == ("unauthorized", 401)
        with pytest.raises(Refused) as refused:
            next(fanfare.subscribe("a"))
        assert refused.value.code == "unauthorized"


def test_a_right_that_is_missing_is_refused_for_good(secured: Broker) -> None:
    with Fanfare(secured.url, token=token(60)) as fanfare:
        with pytest.raises(Refused) as refused:
            next(fanfare.subscribe("other"))
        assert refused.value.code == "forbidden"
        with pytest.raises(Refused) as refused:
            fanfare.publish("other", 1)
        assert refused.value.code == "forbidden"


def test_r19_a_token_is_renewed_in_place(secured: Broker) -> None:
    road = Road(secured.port)
    tokens = Tokens(3)
    with Fanfare(road.url, token=tokens) as fanfare, Fanfare(secured.url, key=KEY) as publisher:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        ends = time.monotonic() + 7
        number = 0
        while time.monotonic() < ends:
            publisher.publish("a", number)
            event = subscription.next(MOST)
            assert isinstance(event, Event)
            assert event.data == number
            number += 1
            time.sleep(0.1)
        assert road.connects == 1, "on one connection all the time"
        assert tokens.count >= 3
    road.close()


def test_r19_a_token_function_that_fails_is_asked_again_and_nobody_goes_in_as_nobody(start: Start) -> None:
    secured = start(*SECURED, rules='[[topics]]\nmatch = "a"\nsubscribe = "anyone"\npublish = "anyone"\n')
    tokens = Tokens(60)
    good = tokens.give

    def fail() -> str:
        raise OSError("the issuer is away")

    tokens.give = fail
    with Fanfare(secured.url, token=tokens, retry_for=1.0) as fanfare:
        subscription = fanfare.subscribe("a")
        eventually("it waits", lambda: subscription.state.name == "waiting")
        assert "token_failed" in subscription.state.reason
        assert "away" not in subscription.state.reason, "nobody knows what is in there"
        with pytest.raises(Unavailable) as failed:
            fanfare.publish("a", 1)
        assert failed.value.code == "token_failed"
        tokens.give = good
        subscription.wait_live(MOST)
        fanfare.publish("a", 1)
        event = subscription.next(MOST)
        assert isinstance(event, Event)
        assert event.from_ is not None
        assert event.from_.user == "ada"


def test_r13_a_revoked_token_is_asked_for_once_more(secured: Broker) -> None:
    tokens = Tokens(60)
    with Fanfare(secured.url, token=tokens) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        time.sleep(1.1)  # Tokens of the second of a revocation count as issued before it.
        bearer = {"Authorization": f"Bearer {KEY}"}
        httpx.post(f"{secured.url}/v1/revocations", json={"user": "ada"}, headers=bearer).raise_for_status()
        time.sleep(1.1)
        eventually("it is back", lambda: tokens.count >= 2 and subscription.state.name == "live")
        fanfare.publish("a", 1)
        assert isinstance(subscription.next(MOST), Event)


def test_r13_a_fixed_token_that_is_revoked_is_the_end(secured: Broker) -> None:
    with Fanfare(secured.url, token=token(60)) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        time.sleep(1.1)
        bearer = {"Authorization": f"Bearer {KEY}"}
        httpx.post(f"{secured.url}/v1/revocations", json={"user": "ada"}, headers=bearer).raise_for_status()
        with pytest.raises(Refused) as refused:
            subscription.next(MOST)
        assert refused.value.code == "unauthorized"


def test_a_token_that_is_refused_again_and_again_is_the_end(secured: Broker) -> None:
    tokens = Tokens(60)
    tokens.give = lambda: "no.token.atall"
    with Fanfare(secured.url, token=tokens) as fanfare:
        with pytest.raises(Refused):
            fanfare.publish("a", 1)
        assert tokens.count == 3, "twice more, and no more"
        with pytest.raises(Refused):
            next(fanfare.subscribe("a"))
        assert tokens.count == 5


def test_a_right_that_is_taken_away_is_told(start: Start) -> None:
    rule = '[[topics]]\nmatch = "a"\nsubscribe = "{}"\n'
    secured = start(*SECURED, rules=rule.format("anyone"))
    with Fanfare(secured.url) as fanfare:
        subscription = fanfare.subscribe("a")
        subscription.wait_live(MOST)
        (secured.folder / "fanfare.toml").write_text(rule.format("token"))
        with pytest.raises(Refused) as refused:
            subscription.next(MOST)
        assert refused.value.code in ("forbidden", "unauthorized")


def test_r19_one_token_is_fetched_at_a_time(secured: Broker) -> None:
    count = 0

    async def fetch() -> str:
        nonlocal count
        count += 1
        await asyncio.sleep(0.3)
        return token(60)

    async def run() -> None:
        async with AsyncFanfare(secured.url, token=fetch) as fanfare:
            await asyncio.gather(*(fanfare.publish("a", number) for number in range(10)))
            hasty = asyncio.create_task(fanfare.publish("a", 10))
            await asyncio.sleep(0)
            hasty.cancel()
            await fanfare.publish("a", 11)

    asyncio.run(run())
    assert count == 1


def test_a_plain_token_function_may_take_its_time(secured: Broker) -> None:
    threads = set()

    def fetch() -> str:
        threads.add(threading.current_thread().name)
        return token(60)

    with Fanfare(secured.url, token=fetch) as fanfare:
        fanfare.publish("a", 1)
        assert threads
        assert "fanfare" not in threads


def test_an_empty_credential_is_refused_and_not_taken_for_none() -> None:
    for wrong in ({"key": ""}, {"token": ""}, {"key": "k", "token": "t"}):
        with pytest.raises(ValueError, match=r"credential|either"):
            Fanfare("http://127.0.0.1", **wrong)  # type: ignore[arg-type]
    for url in ("127.0.0.1:8080", "ws://127.0.0.1", "http://"):
        with pytest.raises(ValueError, match="url"):
            Fanfare(url)
