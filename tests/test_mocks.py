"""The harness itself: a test that uses it must not be able to pass for the wrong reason."""

from __future__ import annotations

import pulumi
import pulumi_random as random
import pytest
from pulumi import Alias, CustomTimeouts, ResourceOptions

from tests import mocks


def password(name: str = "one", opts: ResourceOptions | None = None) -> random.RandomPassword:
    return random.RandomPassword(name, length=20, opts=opts)


def test_outputs_are_resolved_and_inputs_recorded() -> None:
    run = mocks.run(lambda: {"result": password().result})
    assert run.value["result"].startswith("Aa1!one")
    assert run.one("RandomPassword").inputs == {"length": 20}


def test_a_resource_outside_a_run_is_refused() -> None:
    with pytest.raises(AssertionError, match=r"one is made outside mocks\.run"):
        password()


def test_no_run_inside_a_run() -> None:
    with pytest.raises(AssertionError, match="inside"):
        mocks.run(lambda: mocks.run(password))


def test_a_failure_in_an_apply_nobody_awaits_comes_out() -> None:
    def wrong(_: str) -> None:
        raise LookupError("in the apply")

    def program() -> None:
        password().result.apply(wrong)

    with pytest.raises(LookupError, match="in the apply"):
        mocks.run(program)


def test_a_run_after_a_failed_one_is_not_touched_by_it() -> None:
    def program() -> None:
        password()
        raise LookupError("half way")

    with pytest.raises(LookupError):
        mocks.run(program)
    assert [r.name for r in mocks.run(password).resources] == ["one"]


def test_two_resources_of_one_name_are_refused_as_the_engine_does() -> None:
    def program() -> None:
        password()
        password()

    with pytest.raises(Exception, match="duplicate resource"):
        mocks.run(program)


def test_computed_outputs_are_unknown_in_a_preview() -> None:
    seen: list[str] = []

    def program() -> pulumi.Output[str]:
        result = password().result
        result.apply(seen.append)
        return result

    assert mocks.run(program, preview=True).value is None
    assert seen == []


def test_options_are_recorded() -> None:
    def program() -> None:
        first = password("first")
        password(
            "second",
            ResourceOptions(
                protect=True,
                depends_on=[first],
                ignore_changes=["min_lower"],
                delete_before_replace=True,
                deleted_with=first,
                replace_with=[first],
                aliases=[Alias(name="old")],
                import_="taken-over",
                retain_on_delete=True,
                replace_on_changes=["length"],
                custom_timeouts=CustomTimeouts(create="5m"),
            ),
        )

    run = mocks.run(program)
    first, second = run.of("RandomPassword")
    assert first.protect is None or first.protect is False
    assert second.protect is True
    assert second.dependencies == (first.urn,)
    assert second.ignore_changes == ("minLower",)
    assert second.delete_before_replace is True
    assert second.deleted_with == first.urn
    assert second.replace_with == (first.urn,)
    assert second.aliases == ("name=old",)
    assert second.import_id == "taken-over"
    assert second.retain_on_delete is True
    assert second.replace_on_changes == ("length",)
    assert second.timeouts == {"create": "5m"}


def test_secret_inputs_are_told_from_plain_ones() -> None:
    def program() -> None:
        random.RandomId("id", byte_length=4, prefix=pulumi.Output.secret("hidden"), keepers={"a": "b"})

    recorded = mocks.run(program).one("RandomId")
    assert recorded.inputs["prefix"] == "hidden"
    assert recorded.secrets == {"prefix"}


def test_outputs_the_sdk_calls_secret_are_secret() -> None:
    def program() -> None:
        component = pulumi.ComponentResource("test:index:Thing", "thing")
        component.register_outputs(
            {"secret": password().result, "open": random.RandomId("i", byte_length=4).hex}
        )

    run = mocks.run(program)
    thing = run.one("test:index:Thing")
    assert run.secret_outputs[thing.urn] == {"secret"}
    assert set(run.outputs[thing.urn]) == {"secret", "open"}


def test_an_invoke_without_an_answer_is_refused() -> None:
    def program() -> pulumi.Output[object]:
        return pulumi.Output.from_input(pulumi.runtime.invoke("some:index:thing", {"a": 1}).value)

    with pytest.raises(Exception, match="has no answer"):
        mocks.run(program)
    run = mocks.run(program, fakes={"some:index:thing": lambda _, args: {"got": args["a"]}})
    assert run.calls == [("some:index:thing", {"a": 1})]
