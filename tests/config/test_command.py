"""``python -m config check`` as a person meets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from config import __main__ as command

ROOT = Path(__file__).parents[2]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "ROOT", tmp_path)
    for name in ("BERTH_CALLER_IP", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for stack in ("prod", "sandbox"):
        text = (ROOT / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")
        (tmp_path / f"Pulumi.{stack}.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_sound_files(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check"]) == 0
    said = capsys.readouterr()
    assert "Pulumi.prod.yaml: ok (production: scell)" in said.out
    assert "range for documentation" in said.out
    assert "Pulumi.sandbox.yaml: ok (sandbox: scell)" in said.out
    assert not said.err


def test_a_bad_file_among_good_ones(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = files / "Pulumi.prod.yaml"
    bad.write_text(
        bad.read_text(encoding="utf-8").replace("release: v1.0.0", "release: main"), encoding="utf-8"
    )
    assert command.main(["check"]) == 1
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "Pulumi.prod.yaml: 1 problem"
    assert "berth:systems.scell.frontend.release" in said.err
    assert "Pulumi.sandbox.yaml: ok" in said.out
    assert command.main(["check", "--stack", "sandbox"]) == 0


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "not UTF-8")])
def test_unreadable(
    files: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    if content is not None:
        (files / "Pulumi.x.yaml").write_bytes(content)
    assert command.main(["check", "--stack", "x"]) == 2
    assert f"Pulumi.x.yaml: cannot be read: {reason}" in capsys.readouterr().err


def test_locked_out(files: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTH_CALLER_IP", "62.210.1.7")
    assert command.main(["check", "--stack", "prod"]) == 1
    assert "add 62.210.1.7/32" in capsys.readouterr().err


def test_generated_files_are_written_once(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "config").mkdir()
    assert command.main(["schema", "--check"]) == 1
    assert command.main(["schema"]) == 0
    assert command.main(["schema", "--check"]) == 0
    assert command.main(["docs"]) == 0
    assert "wrote docs/config.md" in capsys.readouterr().out
