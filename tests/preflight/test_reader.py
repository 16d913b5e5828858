"""Only GET leaves; what the cloud answers badly is told apart; nothing is asked twice."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from preflight.reader import Absent, Forbidden, OnlyGet, Reader, Refused, Unreadable

URL = "https://api.scaleway.com/iam/v1alpha1/quota"


class Script:
    """Answers in turn, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.seen = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def reader(script: Callable[[httpx.Request], httpx.Response], waits: list[float] | None = None) -> Reader:
    kept = waits if waits is not None else []
    return Reader(httpx.MockTransport(script), timeout=1, sleep=kept.append)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_nothing_but_get_leaves(method: str) -> None:
    reached = Script(httpx.Response(200))
    with (
        httpx.Client(transport=OnlyGet(httpx.MockTransport(reached))) as client,
        pytest.raises(RuntimeError, match=f"only reads; {method}"),
    ):
        client.request(method, URL)
    assert reached.seen == 0


def test_get_leaves_and_the_client_of_a_reader_is_bound_to_it() -> None:
    reached = Script(httpx.Response(200, json={"a": 1}))
    one = reader(reached)
    assert one.json(URL) == {"a": 1}
    with pytest.raises(RuntimeError, match="only reads"):
        one._client.post(URL)
    assert reached.seen == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Refused), (403, Forbidden), (404, Absent), (400, Unreadable), (302, Unreadable)],
)
def test_refusals_are_told_apart_and_not_repeated(status: int, kind: type[Unreadable]) -> None:
    script = Script(httpx.Response(status, headers={"Location": "https://elsewhere.test/"}))
    with pytest.raises(kind) as caught:
        reader(script).json(URL)
    assert type(caught.value) is kind
    assert script.seen == 1


def test_403_names_what_this_key_may_not_read() -> None:
    with pytest.raises(Forbidden, match=r"this key may not read api\.scaleway\.com/iam/v1alpha1/quota"):
        reader(Script(httpx.Response(403))).json(URL)


def test_429_is_waited_for_as_long_as_it_asks() -> None:
    waits: list[float] = []
    script = Script(httpx.Response(429, headers={"Retry-After": "7"}), httpx.Response(200, json=[1]))
    assert reader(script, waits).json(URL) == [1]
    assert waits == [pytest.approx(7, abs=0.5)]


def test_429_that_asks_for_too_long_is_given_up() -> None:
    script = Script(httpx.Response(429, headers={"Retry-After": "3600"}))
    with pytest.raises(Unreadable, match="asks to wait 3600 s"):
        reader(script).json(URL)
    assert script.seen == 1


@pytest.mark.parametrize(
    "bad",
    [httpx.Response(503), httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.Response(429)],
)
def test_what_passes_is_tried_again(bad: httpx.Response | Exception) -> None:
    assert reader(Script(bad, bad, httpx.Response(200, json="there"))).json(URL) == "there"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (httpx.Response(502), "fails with 502"),
        (httpx.ReadTimeout("slow"), "does not answer within 1 s"),
        (httpx.ConnectError("refused"), "cannot be reached"),
        (httpx.Response(200, text="<html>"), "something else than JSON"),
    ],
)
def test_what_stays_is_named(bad: httpx.Response | Exception, words: str) -> None:
    with pytest.raises(Unreadable, match=words):
        reader(Script(bad)).json(URL)


def test_each_address_is_asked_once_whoever_wants_it() -> None:
    gate = threading.Event()
    seen: list[str] = []

    def slow(request: httpx.Request) -> httpx.Response:
        seen.append(str(request.url))
        gate.wait(5)
        return httpx.Response(200, json=request.url.params["page"])

    one = reader(slow)
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(one.json, URL, {"page": page}) for page in ("1", "1", "1", "1", "2")]
        gate.set()
        assert [future.result(5) for future in asked] == ["1", "1", "1", "1", "2"]
    assert len(seen) == len(set(seen)) == 2


def test_a_failure_is_asked_once_too() -> None:
    script = Script(httpx.Response(403))
    one = reader(script)
    for _ in range(2):
        with pytest.raises(Forbidden):
            one.json(URL)
    assert script.seen == 1


def test_pages_are_read_to_the_last() -> None:
    def pages(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params["page"])
        rows = list(range(100)) if page < 3 else [1, 2]
        assert request.url.params["page_size"] == "100"
        return httpx.Response(200, json={"quota": rows, "total_count": 202})

    assert len(reader(pages).pages(URL, "quota")) == 202


def test_pages_of_a_map_are_joined() -> None:
    def pages(request: httpx.Request) -> httpx.Response:
        names = {
            f"{request.url.params['page']}-{i}": i
            for i in range(100 if request.url.params["page"] == "1" else 1)
        }
        return httpx.Response(200, json={"servers": names})

    assert len(reader(pages).pages(URL, "servers", size="per_page")) == 101


def test_a_list_without_its_key_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="answers without quota"):
        reader(Script(httpx.Response(200, json={"quotas": []}))).pages(URL, "quota")
