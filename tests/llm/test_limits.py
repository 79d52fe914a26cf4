"""A service that is down is left alone, a service that is up is not flooded, and a deadline holds for all tries."""

import asyncio
from typing import Any

import pytest
from wires import HELLO, WIRES, Waits, last, openai

from loom.errors import ConfigError, ProviderUnavailableError, RateLimitError
from loom.llm.limits import Allowance, Gate
from loom.llm.retry import Patience, RetryPolicy
from loom.testing.model_server import ModelServer, served

DOWN = served(status=503, body=b'{"error":{"message":"over capacity"}}')
BUSY = served(status=429, body=b'{"error":{"message":"slow down"}}')


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def ask(gate: Gate, error: BaseException | None = None) -> None:
    async with gate.passage():
        if error is not None:
            raise error


async def fail(gate: Gate, error: BaseException) -> None:
    with pytest.raises(type(error)):
        await ask(gate, error)


def gate(clock: Time, **allowance: Any) -> Gate:
    return Gate("api.test", Allowance(**allowance), clock)


UNAVAILABLE = ProviderUnavailableError("api.test is not available (HTTP 503)")


# --- the breaker --------------------------------------------------------------------------------------


async def test_after_a_row_of_failures_requests_fail_at_once_and_say_why() -> None:
    clock = Time()
    way = gate(clock, open_after=3, reset_after=30.0)
    for _ in range(3):
        await fail(way, UNAVAILABLE)
    clock.now += 10
    with pytest.raises(ProviderUnavailableError, match=r"3 times in a row.*HTTP 503") as refused:
        await ask(way)
    assert refused.value.retry_after == 20.0
    assert refused.value.retryable


async def test_a_success_or_a_refusal_that_proves_life_starts_the_count_anew() -> None:
    way = gate(Time(), open_after=3)
    for alive in (None, RateLimitError("slow down"), ConfigError("our own fault")):
        for _ in range(2):
            await fail(way, UNAVAILABLE)
        await (ask(way) if alive is None else fail(way, alive))
    await fail(way, UNAVAILABLE)
    await ask(way)


async def test_one_request_tries_again_while_the_others_still_fail() -> None:
    clock = Time()
    way = gate(clock, open_after=1, reset_after=5.0)
    await fail(way, UNAVAILABLE)
    clock.now += 6
    async with way.passage():
        with pytest.raises(ProviderUnavailableError):
            await ask(way)
    await asyncio.gather(*(ask(way) for _ in range(5)))


async def test_a_trial_that_fails_closes_the_way_for_as_long_again() -> None:
    clock = Time()
    way = gate(clock, open_after=1, reset_after=5.0)
    await fail(way, UNAVAILABLE)
    clock.now += 6
    await fail(way, UNAVAILABLE)
    clock.now += 4
    with pytest.raises(ProviderUnavailableError, match="2 times in a row"):
        await ask(way)


@pytest.mark.parametrize("gone", [asyncio.CancelledError(), GeneratorExit()])
async def test_a_cancelled_trial_lets_the_next_one_try(gone: BaseException) -> None:
    clock = Time()
    way = gate(clock, open_after=1, reset_after=5.0)
    await fail(way, UNAVAILABLE)
    clock.now += 6
    await fail(way, gone)
    await ask(way)


async def test_a_trial_that_is_cancelled_while_it_waits_for_its_turn_lets_the_next_one_try() -> None:
    clock = Time()
    way = gate(clock, open_after=1, reset_after=5.0, max_concurrent=1)
    async with way.passage():
        await_turn = asyncio.create_task(ask(way))
        await asyncio.sleep(0)
    await await_turn
    await fail(way, UNAVAILABLE)
    clock.now += 6
    slots = way.slots()
    assert slots is not None
    await slots.acquire()
    trial = asyncio.create_task(ask(way))
    await asyncio.sleep(0)
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    slots.release()
    await ask(way)


async def test_without_a_limit_the_service_is_always_asked() -> None:
    way = gate(Time(), open_after=None)
    for _ in range(100):
        await fail(way, UNAVAILABLE)
    await ask(way)


@pytest.mark.parametrize(
    "wrong", [{"max_concurrent": 0}, {"open_after": 0}, {"reset_after": -1}, {"max_concurrent": -3}]
)
def test_limits_that_let_nothing_through_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Allowance(**wrong)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_provider_leaves_its_service_alone(wire: Any) -> None:
    allowance = Allowance(open_after=2, reset_after=1000)
    async with ModelServer([DOWN] * 4 + ["never asked for"] * 2) as server:
        async with wire(server.base_url, max_retries=1, allowance=allowance) as provider:
            for ask_once in (provider.chat(HELLO), last(provider)):
                with pytest.raises(ProviderUnavailableError, match="over capacity"):
                    await ask_once
            for ask_once in (provider.chat(HELLO), last(provider)):
                with pytest.raises(ProviderUnavailableError, match="2 times in a row"):
                    await ask_once
        assert len(server.requests) == 4


# --- requests at once ---------------------------------------------------------------------------------


async def test_no_more_requests_at_once_than_allowed_and_in_order() -> None:
    way = gate(Time(), max_concurrent=3)
    inside, most, order = 0, 0, list[int]()

    async def work(number: int) -> None:
        nonlocal inside, most
        async with way.passage():
            order.append(number)
            inside += 1
            most = max(most, inside)
            for _ in range(3):
                await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(work(number) for number in range(20)))
    assert (most, order) == (3, list(range(20)))


async def test_a_failure_and_a_cancel_give_their_turn_back() -> None:
    way = gate(Time(), max_concurrent=1)
    await fail(way, RateLimitError("x"))
    holder = asyncio.create_task(ask(way, None))
    await holder
    await asyncio.wait_for(ask(way), 5)


def test_a_limited_provider_serves_one_event_loop_after_the_other() -> None:
    way = gate(Time(), max_concurrent=1)

    async def crowd() -> None:
        await asyncio.gather(*(ask(way) for _ in range(5)))

    asyncio.run(crowd())
    asyncio.run(crowd())


async def test_a_stream_holds_its_turn_until_it_is_closed() -> None:
    async with ModelServer(["first reply", "second reply"], chunk=1) as server:
        provider = openai(server.base_url, allowance=Allowance(max_concurrent=1))
        async with provider:
            stream = provider.chat_stream(HELLO)
            await anext(stream)
            second = asyncio.create_task(provider.chat(HELLO))
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(server.requests) == 1
            await stream.aclose()
            assert (await second).message.content == "second reply"


# --- deadlines ----------------------------------------------------------------------------------------


def test_patience_ends_with_its_time_not_only_with_its_tries() -> None:
    clock = Time()
    patience = Patience(RetryPolicy(10, base=1.0, cap=1.0, rand=lambda: 1.0), 2.5, clock)
    assert patience.left() == 2.5
    for waited in (1.0, 1.0):
        assert patience.delay(UNAVAILABLE) == waited
        clock.now += waited
    assert patience.left() == 0.5
    assert patience.delay(UNAVAILABLE) is None
    clock.now += 5
    assert patience.left() == 0.001


async def test_a_wait_the_service_asks_for_beyond_the_deadline_is_not_waited() -> None:
    later = served(status=429, headers={"Retry-After": "30"}, body=b'{"error":{"message":"slow down"}}')
    waits = Waits()
    async with (
        ModelServer([later, "too late"]) as server,
        openai(server.base_url, total_timeout=10.0, sleep=waits) as provider,
    ):
        with pytest.raises(RateLimitError) as refused:
            await provider.chat(HELLO)
    assert refused.value.retry_after == 30.0
    assert waits == []


@pytest.mark.parametrize("wire", WIRES)
async def test_the_time_for_all_tries_bounds_the_last_one_too(wire: Any) -> None:
    stall = served("never told", stall_at=0)
    async with ModelServer([stall] * 3) as server:
        async with wire(server.base_url, timeout=30.0, total_timeout=0.2, max_retries=2) as provider:
            with pytest.raises(ProviderUnavailableError, match="in time"):
                await asyncio.wait_for(last(provider), 10)
        assert len(server.requests) == 1
