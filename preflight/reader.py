"""Reads over HTTPS, and can do nothing else: any method but GET is refused before it leaves the program."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

ATTEMPTS = 4
PATIENCE = 60.0  # seconds a `Retry-After` may ask for; longer is given up
PAGE = 100  # rows; the most Scaleway's API gives at once
MOST_PAGES = 50


class Unreadable(Exception):
    """Could not be read. ``why`` is for the table: no header, no secret in it. ``remedy``: what to do."""

    def __init__(
        self, why: str, remedy: str = "run it again; if it stays, read it in the cloud's console"
    ) -> None:
        super().__init__(why)
        self.why = why
        self.remedy = remedy


class Refused(Unreadable):
    """401: the credentials themselves are not taken."""


class Forbidden(Unreadable):
    """403: the credentials are good, this read is not theirs."""


class Absent(Unreadable):
    """404: there is no such thing."""


class OnlyGet(httpx.BaseTransport):
    """Passes GET on to ``inner``. RuntimeError for everything else: preflight never writes."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self.inner = inner

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method != "GET":
            raise RuntimeError(f"preflight only reads; {request.method} {request.url.host} was stopped")
        return self.inner.handle_request(request)

    def close(self) -> None:
        self.inner.close()


class Reader:
    """Asks each address once, however many checks want it; safe to share between threads.

    Waits as long as a 429 asks for, all threads together, and asks again after a 5xx or a broken connection.
    Redirects are not followed: they would carry the credentials to another host.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        *,
        timeout: float = 15.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = httpx.Client(
            transport=OnlyGet(transport or httpx.HTTPTransport()), timeout=timeout, follow_redirects=False
        )
        self._timeout = timeout
        self._sleep = sleep
        self._answers: dict[str, httpx.Response | Unreadable] = {}
        self._asking: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._not_before = 0.0

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def get(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """The answer, if it is 2xx; else raises an error of this module. Headers tell no answers apart."""
        key = str(httpx.URL(url, params=dict(params)) if params else httpx.URL(url))
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            if key not in self._answers:
                try:
                    self._answers[key] = self._ask(key, dict(headers or {}))
                except Unreadable as error:
                    self._answers[key] = error
        found = self._answers[key]
        if isinstance(found, Unreadable):
            raise found
        return found

    def _ask(self, url: str, headers: dict[str, str]) -> httpx.Response:
        where = httpx.URL(url)
        name = f"{where.host}{where.path}"
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt or self._not_before > time.monotonic():
                self._sleep(max(self._not_before - time.monotonic(), 0.5 * 2**attempt if attempt else 0.0))
            try:
                answer = self._client.get(url, headers=headers)
            except httpx.TimeoutException:
                why = f"{name} does not answer within {self._timeout:.0f} s"
                continue
            except httpx.HTTPError as error:
                why = f"{name} cannot be reached ({type(error).__name__}: {error})"
                continue
            if answer.status_code == 429:
                wait = _seconds(answer.headers.get("Retry-After"))
                why = f"{name} has had too many requests and asks to wait {wait:.0f} s"
                if wait > PATIENCE:
                    break
                self._not_before = max(self._not_before, time.monotonic() + wait)
            elif answer.status_code >= 500:
                why = f"{name} fails with {answer.status_code}"
            else:
                return _judged(answer, name)
        raise Unreadable(why)

    def json(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The parsed body. Raises Unreadable also for one that is not JSON."""
        answer = self.get(url, params, headers)
        try:
            return answer.json()
        except ValueError:
            raise Unreadable(
                f"{answer.url.host}{answer.url.path} answers with something else than JSON"
            ) from None

    def pages(
        self,
        url: str,
        key: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        size: str = "page_size",
    ) -> Sequence[Any] | Mapping[str, Any]:
        """All rows of a list, in ``key`` of each page; a map where the API gives one. ``size``: the
        parameter that sets a page's length.
        """
        rows: list[Any] = []
        named: dict[str, Any] = {}
        for page in range(1, MOST_PAGES + 1):
            body = self.json(url, {**(params or {}), size: str(PAGE), "page": str(page)}, headers)
            part = body.get(key) if isinstance(body, dict) else None
            if not isinstance(part, list | dict):
                raise Unreadable(f"{httpx.URL(url).path} answers without {key}")
            if isinstance(part, dict):
                named |= part
            else:
                rows += part
            if len(part) < PAGE:
                break
        return rows or named


def _seconds(text: str | None) -> float:
    """A ``Retry-After`` in seconds; a date or nothing at all counts as five."""
    try:
        return max(float(text or ""), 0.0)
    except ValueError:
        return 5.0


def _judged(answer: httpx.Response, name: str) -> httpx.Response:
    if answer.status_code == 401:
        raise Refused(f"{name}: these credentials are not taken", "make a new API key, and set it")
    if answer.status_code == 403:
        raise Forbidden(f"this key may not read {name}", "let the key read it, or look in the console")
    if answer.status_code == 404:
        raise Absent(f"{name}: not there", "see that the name is right")
    if not answer.is_success:
        raise Unreadable(f"{name} answers {answer.status_code}")
    return answer
