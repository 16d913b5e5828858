"""The vocabulary itself: what it refuses, and the addresses it makes."""

from __future__ import annotations

from typing import Any, Literal

import pulumi
import pytest

from components.cloud import DatabaseAdmin, DatabaseLogin, Postgres, Redis, Rule
from tests import mocks
from tests.contracts.samples import scope


@pytest.mark.parametrize("port", ["22", "20-25", "22-22", "1-65535", None])
@pytest.mark.parametrize("world", ["0.0.0.0/0", "::/0"])
def test_ssh_from_everywhere_is_refused(port: str | None, world: str) -> None:
    with pytest.raises(ValueError, match="rule 'admins' opens SSH"):
        Rule(protocol="tcp", port=port, sources=("203.0.113.0/29", world), description="admins")


@pytest.mark.parametrize(
    ("protocol", "port", "source"),
    [
        ("tcp", "22", "203.0.113.0/29"),
        ("tcp", "80", "0.0.0.0/0"),
        ("tcp", "23-65535", "0.0.0.0/0"),
        ("udp", None, "0.0.0.0/0"),
        ("icmp", None, "::/0"),
    ],
)
def test_other_rules_are_not(protocol: Literal["tcp", "udp", "icmp"], port: str | None, source: str) -> None:
    assert Rule(protocol=protocol, port=port, sources=(source,), description="").sources == (source,)


def test_tags_trace_a_resource_back_to_its_stack_file() -> None:
    assert scope("scaleway").tags == {
        "managed-by": "berth",
        "berth-environment": "production",
        "berth-system": "scell",
    }


def text(value: str) -> pulumi.Output[str]:
    return pulumi.Output.from_input(value)


def test_urls_escape_what_a_password_may_hold() -> None:
    def program() -> Any:
        password = text("a/b@c:d?e%")
        port = pulumi.Output.from_input(5432)
        login = DatabaseLogin(user="o'brien", password=password)
        database = Postgres(
            host=text("10.0.0.1"),
            port=port,
            admin=DatabaseAdmin(user=text("berth"), password=password),
            databases={"db": login},
            ca_certificate=text(""),
        )
        cache = Redis(
            host=text("10.0.0.2"), port=port, user="u", password=password, tls=False, ca_certificate=text("")
        )
        return database.url("db"), cache.url()

    database, cache = mocks.run(program).value
    assert database == "postgresql://o%27brien:a%2Fb%40c%3Ad%3Fe%25@10.0.0.1:5432/db?sslmode=verify-full"
    assert cache == "redis://u:a%2Fb%40c%3Ad%3Fe%25@10.0.0.2:5432/0"
