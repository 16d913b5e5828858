"""Lines into the engine's own display, under the resource this thread is working on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import grpc
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc


class EngineLog:
    """Callable with one line. Says nothing before an engine has introduced itself or outside a resource."""

    def __init__(self) -> None:
        self._engine: engine_pb2_grpc.EngineStub | None = None
        self._address = ""
        self._thread = threading.local()

    def attach(self, address: str) -> None:
        """An engine has introduced itself; each run of it has another address."""
        if address and address != self._address:
            self._address = address
            self._engine = engine_pb2_grpc.EngineStub(grpc.insecure_channel(address))

    @contextlib.contextmanager
    def of(self, urn: str) -> Iterator[None]:
        """Lines of this thread belong to the resource ``urn``."""
        self._thread.urn = urn
        try:
            yield
        finally:
            self._thread.urn = ""

    def __call__(self, line: str) -> None:
        urn = getattr(self._thread, "urn", "")
        if self._engine is None or not urn:
            return
        request = engine_pb2.LogRequest(severity=engine_pb2.INFO, message=line, urn=urn)
        with contextlib.suppress(grpc.RpcError):  # an engine that is going does not stop the work
            self._engine.Log(request, timeout=5)


LOG = EngineLog()
