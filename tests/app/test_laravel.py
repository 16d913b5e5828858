"""What a Laravel application's steps take to their host."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pulumi import Output

from components.app import laravel
from components.cloud import Scope
from components.remote import runner
from components.remote.runner import StepArgs
from tests import mocks

ROOM = Path("components/app")
SECRETS = {"APP_KEY": "base64:hidden-key", "DB_PASSWORD": "hidden #pass"}
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nhidden-certificate\n-----END CERTIFICATE-----\n"


def arguments(**more: Any) -> laravel.LaravelArgs:
    values: dict[str, Any] = {
        "scope": Scope(system="scell", environment="test", region="fr-par", zone="fr-par-1"),
        "instance": None,
        "host": "scell",
        "app": "scell-api",
        "repository": "https://github.com/scell-io/backend.git",
        "release": "v1.0.0",
        "environment": {"APP_NAME": "Scell.io", "DB_HOST": "10.20.0.9"},
        "secrets": SECRETS,
        "health": "https://api.scell.io/health",
        "memory_gb": 4.0,
        "files": {"certs/insee-client.pem": CERTIFICATE},
        "authorities": {"scell-postgres": "the authority"},
    }
    return laravel.LaravelArgs(**{**values, **more})


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[StepArgs]:
    """What would be sent."""
    sent: list[StepArgs] = []
    monkeypatch.setattr(laravel, "Step", lambda _name, args, _opts=None: sent.append(args))
    return sent


def contents(step: StepArgs) -> Mapping[str, str]:
    found: Mapping[str, str] = mocks.run(
        lambda: Output.all(**{file.path: file.content for file in step.files})
    ).value
    return found


def test_the_env_has_everything_and_only_secrets_are_masked(steps: list[StepArgs]) -> None:
    laravel.laravel_release("x", arguments())
    [step] = steps
    found = contents(step)
    assert found["dotenv"] == (
        'APP_KEY=base64:hidden-key\nAPP_NAME=Scell.io\nDB_HOST=10.20.0.9\nDB_PASSWORD="hidden #pass"\n'
    )
    assert found["storage/certs/insee-client.pem"] == CERTIFICATE
    assert found["ca/scell-postgres.pem"] == "the authority"
    hidden = set(runner.masks(found[file.path] for file in step.files if file.secret))
    assert hidden >= {"base64:hidden-key", "hidden #pass", "hidden-certificate"}
    assert not hidden & {"Scell.io", "10.20.0.9"}
    assert not [value for value in step.environment.values() if "hidden" in str(value)]
    assert step.secrets == {}


def test_processes_follow_the_hosts_memory(steps: list[StepArgs]) -> None:
    for memory in (0.5, 4.0, 16.0):
        laravel.laravel_release("x", arguments(memory_gb=memory, stream_seconds=1800, upload_mb=50))
    found = [contents(step) for step in steps]
    children = [re.findall(r"^pm\.max_children = (\d+)$", each["fpm.conf"], re.MULTILINE) for each in found]
    assert children == [["4", "4"], ["16", "24"], ["64", "96"]]
    assert "request_terminate_timeout = 1830s" in found[0]["fpm.conf"]
    assert "upload_max_filesize = 50M" in found[0]["fpm.ini"]
    assert "opcache.validate_timestamps = 0" in found[0]["fpm.ini"]


def test_every_file_is_used_by_its_script(steps: list[StepArgs]) -> None:
    laravel.laravel_runtime("x", arguments())
    laravel.laravel_release("x", arguments(deploy_key="key"))
    for step in steps:
        scripts = step.script.read_text() + (ROOM / "release.sh").read_text()
        unused = [file.path for file in step.files if file.path.split("/")[0] not in scripts]
        assert unused == (["masks"] if "release" in step.step else [])
        for name in step.environment:
            assert re.search(rf"\b{name}\b", scripts), name
    assert [step.lock for step in steps] == ["app-scell-api"] * 2  # one after the other


def test_the_code_is_known_by_what_makes_it_and_by_nothing_else() -> None:
    args = arguments()
    assert laravel.code_id(args).startswith("v1.0.0-")
    assert laravel.code_id(args) == laravel.code_id(replace(args, environment={}, memory_gb=8.0))
    assert laravel.code_id(args) != laravel.code_id(replace(args, release="v1.0.1"))
    assert laravel.code_id(args) != laravel.code_id(replace(args, repository="https://git.scell.io/b.git"))
    odd = laravel.code_id(replace(args, release="feature/" + "x" * 80))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,49}", odd)


def test_a_variable_is_secret_or_not() -> None:
    with pytest.raises(ValueError, match="DB_HOST: in both environment and secrets of scell-api"):
        laravel.laravel_release("x", arguments(secrets={"DB_HOST": "x"}))
