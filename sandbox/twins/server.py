"""Serves the twins to the engine: one process, one port a provider, one pool of threads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
from pulumi.runtime.proto import provider_pb2_grpc

from sandbox.twins import tables
from sandbox.twins.cloud import Cloud
from sandbox.twins.provider import Provider, Refuser

# The engine works on up to four resources a core at once and a call may wait for a host for minutes.
THREADS = 64
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def installed(site: Path) -> Mapping[str, str]:
    """Providers whose Python SDK is installed under ``site``, with the plugin version each asks for."""
    found = {}
    for path in site.glob("pulumi*/pulumi-plugin.json"):
        described = json.loads(path.read_text())
        if described.get("resource") and "name" in described:
            found[described["name"]] = described.get("version", "")
    return found


@contextmanager
def serve(cloud: Cloud, site: Path | None = None) -> Iterator[str]:
    """Run the twins; the value for PULUMI_DEBUG_PROVIDERS (``scaleway:4711,command:4712,…``).

    ``site`` is where the program's packages are: SDKs there without a fact table get a twin that says so.
    """
    servers = []
    attached = []
    with ThreadPoolExecutor(THREADS, thread_name_prefix="twin") as pool:
        wanted = dict.fromkeys(tables.available(), "") | dict(installed(site) if site else {})
        for name, version in wanted.items():
            known = name in tables.available()
            twin = Provider(tables.load(name), cloud) if known else Refuser(name, version)
            server = grpc.server(pool, options=OPTIONS)
            provider_pb2_grpc.add_ResourceProviderServicer_to_server(twin, server)
            attached.append(f"{name}:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()
            servers.append(server)
        try:
            yield ",".join(attached)
        finally:
            cloud.cancelled.set()
            for server in servers:
                server.stop(grace=1)
