"""One step is one Command, tied to its host, with nothing but a short line in argv."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pulumi
import pytest
from jinja2 import UndefinedError
from pulumi import Output, ResourceOptions

from components.cloud import Connection, Instance, Scope
from components.remote import runner
from components.remote.files import File, render
from tests import mocks

SCOPE = Scope(system="scell", environment="test", region="fr-par", zone="fr-par-1")


class Server(pulumi.CustomResource):
    def __init__(self, name: str) -> None:
        super().__init__("test:index:Server", name)


def instance() -> Instance:
    return Instance(
        id=Output.from_input("1"),
        public_ip=Output.from_input("198.18.16.5"),
        private_ip=Output.from_input("10.20.0.5"),
        connection=Connection(
            host=Output.from_input("198.18.16.5"),
            user="ops",
            private_key=Output.secret("PRIVATE"),
            host_key=Output.from_input("ssh-ed25519 AAAA"),
        ),
        resource=Server("host"),
    )


def step(
    tmp_path: Path,
    name: str = "scell-web",
    on: Instance | None = None,
    opts: ResourceOptions | None = None,
    **changes: Any,
) -> runner.Step:
    script = tmp_path / "script.sh"
    script.write_text("echo hello\n")
    args: dict[str, Any] = {
        "files": [
            File(path="plain", content="text"),
            File(path="env", content="A=s3cret-a\nB=x", secret=True),
        ],
        "environment": {"NAME": Output.from_input("value")},
        "secrets": {"PASSWORD": Output.secret("pa$$ word\nsecond line")},
    }
    args |= {"scope": SCOPE, "instance": on or instance(), "step": "web", "host": "scell", "script": script}
    return runner.Step(name, runner.StepArgs(**(args | changes)), opts)


def test_options_tie_the_command_to_its_host(tmp_path: Path) -> None:
    run = mocks.run(lambda: step(tmp_path))
    command, host = run.one("command:remote:Command"), run.one("test:index:Server")
    assert command.deleted_with == host.urn
    assert command.replace_with == (host.urn,)
    assert command.parent == run.one("berth:remote:Step").urn
    assert "triggers" not in command.inputs
    assert command.inputs["update"] == command.inputs["create"]
    assert "delete" not in command.inputs
    assert command.inputs["addPreviousOutputInEnv"] is False
    assert command.inputs["logging"] == "stderr"
    assert command.timeouts.keys() == {"create", "update"}


def test_connection_is_pinned_patient_and_secret(tmp_path: Path) -> None:
    command = mocks.run(lambda: step(tmp_path)).one("command:remote:Command")
    connection = command.inputs["connection"]
    assert connection["hostKey"] == "ssh-ed25519 AAAA"
    assert connection["user"] == "ops"
    # pulumi-command pauses 0.1 s × 1.5 per attempt, at most 5 s: what a refusing host gets in all
    pauses = sum(min(0.1 * 1.5**attempt, 5) for attempt in range(connection["dialErrorLimit"]))
    assert pauses > 180
    assert "connection" in command.secrets


def test_all_values_go_over_a_secret_standard_input(tmp_path: Path) -> None:
    command = mocks.run(lambda: step(tmp_path)).one("command:remote:Command")
    assert "stdin" in command.secrets
    document = json.loads(command.inputs["stdin"])
    assert document["files"]["plain"] == "text"
    assert document["files"]["lib.sh"] == runner.LIBRARY.read_text()
    assert document["environment"] == {"NAME": "value", "PASSWORD": "pa$$ word\nsecond line"}
    assert document["script"] == "echo hello\n"
    assert "environment" not in command.inputs
    for value in ("value", "s3cret-a", "second line", "PRIVATE"):
        assert value not in command.inputs["create"]
    assert len(command.inputs["create"]) < 250


def test_every_line_of_a_secret_is_masked(tmp_path: Path) -> None:
    command = mocks.run(lambda: step(tmp_path)).one("command:remote:Command")
    assert json.loads(command.inputs["stdin"])["mask"] == [
        "A=s3cret-a",
        "pa$$ word",
        "s3cret-a",
        "second line",
    ]


def test_equal_steps_are_equal_to_the_byte(tmp_path: Path) -> None:
    def stdin(**changes: Any) -> str:
        run = mocks.run(lambda: step(tmp_path, **changes))
        return str(run.one("command:remote:Command").inputs["stdin"])

    assert stdin() == stdin()
    assert stdin(environment={"A": "1", "B": "2"}) == stdin(environment={"B": "2", "A": "1"})
    assert stdin(environment={"A": "1"}) != stdin(environment={"A": "2"})


def test_facts_come_back_and_are_not_secret(tmp_path: Path) -> None:
    answer = {"command:remote:Command": lambda *_: {"stdout": '{"release": "v1"}\n', "stderr": ""}}
    run = mocks.run(lambda: step(tmp_path).outputs.facts, fakes=answer)
    assert run.value == {"release": "v1"}
    component = run.one("berth:remote:Step")
    assert "facts" not in run.secret_outputs[component.urn]


def test_a_preview_knows_no_facts_and_does_not_fail(tmp_path: Path) -> None:
    run = mocks.run(lambda: step(tmp_path), preview=True)
    assert run.one("command:remote:Command").name == "scell-web-command"


def test_a_later_step_waits_for_the_command_of_the_first(tmp_path: Path) -> None:
    def program() -> None:
        host = instance()
        first = step(tmp_path, on=host)
        step(tmp_path, "scell-release", host, ResourceOptions(depends_on=[first]))

    run = mocks.run(program)
    first = run.one("command:remote:Command", "scell-web-command")
    assert first.urn in run.one("command:remote:Command", "scell-release-command").dependencies


def test_the_reader_hands_the_document_to_the_receiver_in_it() -> None:
    receiver = (
        "import json, sys; assert __name__ == '__main__'; print(json.dumps(DOCUMENT['x']), sys.argv[1])"
    )
    line = runner.command_line("a step").removeprefix("sudo -n python3 ")
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} {line}"],
        input=json.dumps({"receiver": receiver, "x": "é\"'$"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == '"\\u00e9\\"\'$" a step\n'


def test_a_template_fails_on_a_name_it_does_not_get(tmp_path: Path) -> None:
    template = tmp_path / "t.j2"
    template.write_text("{{ one }} {{ two }}\n")
    assert render(template, one=1, two=2) == "1 2\n"
    with pytest.raises(UndefinedError):
        render(template, one=1)
