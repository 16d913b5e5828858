"""The loader: what it returns, how it treats secrets, and that nothing but ConfigError ever comes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi.runtime import config as engine
from pydantic import ValidationError

from config import stackfile
from config.loader import Sealed, caller_address, load, missing_secrets, parse
from config.model import Registry, Secret, Stack
from config.report import ConfigError
from systems import REGISTRY
from systems.scell import ScellConfig
from tests import mocks, stand_ins

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-p1anted-value"


def committed(stack: str) -> dict[str, Any]:
    """The settings of a committed stack file as the engine hands them over: texts, tables as JSON."""
    whole = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8"))["config"]
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in whole.items()}


def raw(stack: str = "prod") -> dict[str, Any]:
    file = ROOT / f"Pulumi.{stack}.yaml"
    return stackfile.read(file.read_text(encoding="utf-8"), file.name) | {"secrets": stand_ins.sealed()}


def problems(written: Mapping[str, Any], registry: Registry = REGISTRY) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        parse(written, file="Pulumi.prod.yaml", registry=registry)
    return {problem.path: problem.rule for problem in caught.value.problems}


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Settings as they are inside the program of stack ``prod``."""
    monkeypatch.setattr(pulumi, "get_stack", lambda: "prod")
    for name in ("BERTH_CALLER_IP", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)

    def given_settings(values: dict[str, str], secret: list[str]) -> None:
        engine.set_all_config(values, secret)

    before = engine.CONFIG.get()
    yield given_settings
    engine.set_all_config(before, [])


# ---------------------------------------------------------------- what it returns


@pytest.mark.parametrize("stack", ["prod", "staging", "sandbox"])
def test_committed_stack_files_load(stack: str) -> None:
    loaded = parse(raw(stack), file=f"Pulumi.{stack}.yaml", registry=REGISTRY)

    scell = loaded.systems["scell"]
    assert isinstance(scell, ScellConfig)
    assert scell.site.name.endswith("scell.io")
    assert scell.certificates.directory == "https://acme-v02.api.letsencrypt.org/directory"
    assert (loaded.environment == "production") == (stack == "prod")
    assert loaded.keep_data == (stack == "prod")


def test_nothing_in_it_changes() -> None:
    loaded = parse(raw(), file="Pulumi.prod.yaml", registry=REGISTRY)
    with pytest.raises(ValidationError, match="frozen"):
        loaded.environment = "staging"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        loaded.systems["scell"].region = "nl-ams"  # type: ignore[attr-defined]
    assert isinstance(loaded.admin.cidrs, tuple)


def test_a_name_in_a_deeper_place_is_written_as_the_engine_takes_it() -> None:
    written = raw()
    written["systems"]["scell"]["frontend"]["variables"]["VITE_A.B"] = "x"
    assert list(problems(written)) == ['berth:systems.scell.frontend.variables["VITE_A.B"]']


# ---------------------------------------------------------------- inside the program


async def revealed(output: pulumi.Output[Any]) -> tuple[Any, bool]:
    return await output.future(), await output.is_secret()


def test_secrets_come_only_as_secret_outputs(program: Any) -> None:
    given = stand_ins.usual() | {"deploy_key": SECRET}
    values = committed("prod") | {"berth:secrets": json.dumps({"scell": given})}
    values["berth:systems"] = values["berth:systems"].replace(
        "https://github.com/scell-io/frontend", "git@github.com:scell-io/frontend"
    )
    program(values, ["berth:secrets"])
    found: dict[str, Any] = {}

    def build() -> None:
        stack = load(REGISTRY)
        found["stack"] = stack
        found["key"] = stack.secrets["scell"]["deploy_key"]

    mocks.run(build)

    stack: Stack = found["stack"]
    assert isinstance(found["key"], pulumi.Output)
    assert SECRET not in repr(stack) + repr(stack.secrets) + repr(found["key"]) + str(stack.model_dump())
    assert list(stack.secrets) == ["scell"]
    assert dict(stack.secrets["unknown"]) == {}

    value, secret = asyncio.get_event_loop().run_until_complete(revealed(found["key"]))
    assert (value, secret) == (SECRET, True)


@pytest.mark.parametrize(
    ("change", "secret_keys", "path"),
    [
        ({"berth:secrets": json.dumps({"scell": {"deploy_key": SECRET}})}, [], "secrets.scell.deploy_key"),
        ({"berth:secrets": json.dumps({"scell": {"deploy_kye": SECRET}})}, ["berth:secrets"], "deploy_kye"),
        ({"berth:secrets": json.dumps({"scell": SECRET})}, ["berth:secrets"], "berth:secrets.scell"),
        ({"berth:secrets": SECRET}, ["berth:secrets"], "berth:secrets"),
        (
            {"berth:secrets": json.dumps({"scell": {"deploy_key": "changeme"}})},
            ["berth:secrets"],
            "deploy_key",
        ),
        ({"berth:secrets": json.dumps({"scell": {"deploy_key": " "}})}, ["berth:secrets"], "deploy_key"),
        ({"berth:admin": json.dumps({"user": SECRET})}, ["berth:admin"], "berth:admin"),
        ({"berth:colour": SECRET}, ["berth:colour"], "berth:colour"),
        ({"berth:environment": SECRET}, [], "berth:environment"),
    ],
)
def test_a_program_with_bad_settings_ends_in_one_clean_error(
    program: Any, change: dict[str, str], secret_keys: list[str], path: str
) -> None:
    program(committed("prod") | change, secret_keys)
    with pytest.raises(pulumi.RunError) as caught:
        load(REGISTRY)
    assert path in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_without_secrets_there_are_none(program: Any) -> None:
    values = committed("staging")
    systems = json.loads(values["berth:systems"])
    del systems["scell"]["backend"]
    program(values | {"berth:systems": json.dumps(systems)}, [])
    stacks: list[Stack] = []
    mocks.run(lambda: stacks.append(load(REGISTRY)))
    assert len(stacks[0].secrets) == 0


def test_a_missing_secret_is_named_with_the_command_that_sets_it() -> None:
    class Needy(ScellConfig):
        SECRETS = {"api_token": Secret("token of the API")}  # noqa: RUF012

        def needed_secrets(self) -> list[str]:
            return ["api_token"]

    registry = Registry(systems={"scell": Needy}, catalogues=REGISTRY.catalogues)
    bare = {key: value for key, value in raw().items() if key != "secrets"}
    with pytest.raises(ConfigError) as caught:
        parse(bare, file="Pulumi.prod.yaml", registry=registry)
    (problem,) = caught.value.problems
    assert problem.path == "berth:secrets.scell.api_token"
    assert problem.rule == "required, and missing: token of the API"
    assert problem.remedy == "pulumi config set --secret --path 'berth:secrets.scell.api_token' --stack prod"
    given = {"secrets": {"scell": {"api_token": Sealed()}}}
    parse(bare | given, file="Pulumi.prod.yaml", registry=registry)
    later = parse(bare, file="Pulumi.prod.yaml", registry=registry, secrets=False)
    assert list(missing_secrets(bare, later, "Pulumi.prod.yaml")) == [problem]
    assert list(missing_secrets(bare | given, later, "Pulumi.prod.yaml")) == []


def test_a_program_without_its_secrets_ends_in_one_error_that_lists_them_all(program: Any) -> None:
    program(committed("prod"), [])
    with pytest.raises(pulumi.RunError) as caught:
        load(REGISTRY)
    said = str(caught.value)
    assert said.startswith("Pulumi.prod.yaml: 9 problems")
    for name in stand_ins.usual():
        command = f"pulumi config set --secret --path 'berth:secrets.scell.{name}' --stack prod"
        assert said.count(command) == 1


def test_what_is_switched_off_needs_no_secrets() -> None:
    written = raw()
    backend = written["systems"]["scell"]["backend"]
    for service in ("google", "openapi", "superpdp", "bulkgate", "insee"):
        backend[service] = {"enabled": False}
    del written["secrets"]
    parse(written, file="Pulumi.prod.yaml", registry=REGISTRY)
    del backend["insee"]
    assert list(problems(written)) == [
        "berth:secrets.scell.insee_client_id",
        "berth:secrets.scell.insee_certificate",
        "berth:secrets.scell.insee_key",
    ]


def test_a_stack_file_of_the_first_version_still_loads() -> None:
    file = ROOT / "tests/compatibility/0.1.0/Pulumi.prod.yaml"
    loaded = parse(stackfile.read(file.read_text(), file.name), file=file.name, registry=REGISTRY)
    scell = loaded.systems["scell"]
    assert isinstance(scell, ScellConfig)
    assert (scell.backend, scell.postgres, scell.redis, scell.bucket, scell.mail) == (None,) * 5


# ---------------------------------------------------------------- where this machine connects from


@pytest.mark.parametrize(
    ("environ", "cidrs", "caller"),
    [
        ({}, ["51.15.0.0/24"], None),
        ({"BERTH_CALLER_IP": "62.210.1.7"}, ["51.15.0.0/24"], "62.210.1.7"),
        ({"SSH_CONNECTION": "1.2.3.4 50000 62.210.1.7 22"}, ["51.15.0.0/24"], "62.210.1.7"),
        ({"SSH_CONNECTION": "1.2.3.4 50000 10.0.0.7 22"}, ["51.15.0.0/24"], None),  # behind NAT
        ({"SSH_CONNECTION": "1.2.3.4 50000 62.210.1.7 22"}, ["198.18.1.0/24"], None),  # the sandbox's own
        ({"SSH_CONNECTION": "1.2.3.4 50000 62.210.1.7 22"}, ["203.0.113.0/29"], None),
        ({"SSH_CONNECTION": "rubbish"}, ["51.15.0.0/24"], None),
        ({"SSH_CONNECTION": "1.2.3.4 50000 62.210.1.7 22"}, [5, "x"], None),
        (
            {"SSH_CONNECTION": "1.2.3.4 50000 62.210.1.7 22", "BERTH_CALLER_IP": "51.15.0.9"},
            ["51.15.0.0/24"],
            "51.15.0.9",
        ),
    ],
)
def test_caller(environ: dict[str, str], cidrs: list[Any], caller: str | None) -> None:
    assert caller_address(environ, {"admin": {"cidrs": cidrs}}) == caller
    assert caller_address({}, {}) is None


# ---------------------------------------------------------------- anything at all

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
garbage = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)
PATHS: list[tuple[str, ...]] = [
    *((name,) for name in ("environment", "data", "confirm_delete", "admin", "systems", "secrets")),
    *(("admin", name) for name in ("cidrs", "keys")),
    ("systems", "scell"),
    *(("systems", "scell", name) for name in ScellConfig.model_fields),
    *(("systems", "scell", "frontend", name) for name in ("variables", "release", "repository")),
    ("systems", "scell", "host", "timezone"),
    ("systems", "scell", "site", "aliases"),
    ("secrets", "scell"),
    ("secrets", "scell", "deploy_key"),
]


def outcome(written: Mapping[Any, Any]) -> ConfigError | None:
    """What is said about it; any other exception is a defect and goes on to the test."""
    try:
        parse(written, file="Pulumi.prod.yaml", registry=REGISTRY)
    except ConfigError as error:
        return error
    return None


def survives(written: Mapping[Any, Any]) -> None:
    error = outcome(written)
    if error is not None:
        assert error.problems
        assert str(error).encode()


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text(max_size=8) | st.sampled_from(sorted(Stack.model_fields)), garbage, max_size=5)
)
def test_garbage_gives_nothing_but_a_config_error(written: dict[str, Any]) -> None:
    survives(written)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(PATHS), garbage), min_size=1, max_size=3))
def test_garbage_anywhere_gives_nothing_but_a_config_error(
    changes: list[tuple[tuple[str, ...], Any]],
) -> None:
    written = raw()
    for path, value in changes:
        at: Any = written
        for part in path[:-1]:
            if not isinstance(at.get(part), dict):
                at[part] = {}
            at = at[part]
        at[path[-1]] = value
    survives(written)


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_garbage_for_a_file_gives_nothing_but_a_config_error(text: str) -> None:
    for whole in (text, f"config:\n  berth:admin: {text}\n"):
        try:
            parse(stackfile.read(whole, "Pulumi.x.yaml"), file="Pulumi.x.yaml", registry=REGISTRY)
        except ConfigError:
            continue
        raise AssertionError("accepted")


def test_a_bottomless_table_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"x": deep}
    assert problems(raw() | {"admin": deep}) == {"berth": "nested deeper than 30 levels"}


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([path for path in PATHS if path != ("secrets",)]),
    st.sampled_from(["", "-----BEGIN PRIVATE KEY-----\n", "https://u:", "ssh-ed25519 ", "xx@", "10.0.0.0/"]),
    st.sampled_from(["", "@github.com/x.git", ".scell.io", "\x07"]),
)
def test_no_value_is_ever_repeated(path: tuple[str, ...], before: str, after: str) -> None:
    written = raw()
    at: Any = written
    for part in path[:-1]:
        at = at.setdefault(part, {})
    at[path[-1]] = before + SECRET + after
    error = outcome(written)
    if error is None:
        assert path[-1] == "release", "only a tag may read like this"
    else:
        assert SECRET not in str(error) + repr(error)
