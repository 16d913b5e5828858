"""What rclone is asked for: the right buckets, secrets in its environment only, differences told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cutover import bucket
from cutover.__main__ import main
from cutover.databases import Failed

OLD = {
    "AWS_ACCESS_KEY_ID": "SCWOLD",
    "AWS_SECRET_ACCESS_KEY": "old-secret",
    "AWS_DEFAULT_REGION": "fr-par",
    "AWS_ENDPOINT": "https://s3.fr-par.scw.cloud",
    "AWS_BUCKET": "ploi-files",
}
NEW = {
    **OLD,
    "AWS_ACCESS_KEY_ID": "SCWNEW",
    "AWS_SECRET_ACCESS_KEY": "new-secret",
    "AWS_BUCKET": "scell-storage",
}


@pytest.fixture
def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A program that notes how it was called and answers as told."""
    notes = tmp_path / "calls.jsonl"

    def answer(text: str, code: int = 0) -> None:
        fake = tmp_path / "rclone"
        fake.write_text(
            "#!/usr/bin/python3\n"
            "import json, os, sys\n"
            f"open({str(notes)!r}, 'a').write(json.dumps([sys.argv[1:], dict(os.environ)]) + '\\n')\n"
            f"print({text!r})\nsys.exit({code})\n"
        )
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return answer


def calls(tmp_path: Path) -> list[tuple[list[str], dict[str, str]]]:
    return [tuple(json.loads(line)) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]


def test_both_buckets_with_a_key_each_and_no_secret_in_argv(
    tmp_path: Path, rclone: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RCLONE_CONFIG_OTHER_TYPE", "somebody's own")
    rclone('{"count": 3, "bytes": 1500000}')
    said: list[str] = []
    bucket.copy(OLD, NEW, delete=False, say=said.append)
    (words, environment), (size, _) = calls(tmp_path)
    assert words[0] == "copy"
    assert words[-2:] == ["old:ploi-files", "new:scell-storage"]
    assert "--checksum" in words
    assert size[0] == "size"
    assert environment["RCLONE_CONFIG_OLD_SECRET_ACCESS_KEY"] == "old-secret"
    assert environment["RCLONE_CONFIG_NEW_SECRET_ACCESS_KEY"] == "new-secret"
    assert environment["RCLONE_CONFIG_NEW_ACL"] == "private"
    assert "RCLONE_CONFIG_OTHER_TYPE" not in environment
    assert not [word for word in words if "secret" in word]
    assert said[0].startswith("bucket: 3 files, 1.5 MB, copied in")


def test_only_asked_it_deletes(tmp_path: Path, rclone: Callable[..., None]) -> None:
    rclone('{"count": 0, "bytes": 0}')
    bucket.copy(OLD, NEW, delete=True, say=lambda _: None)
    assert calls(tmp_path)[0][0][0] == "sync"


def test_the_same_bucket_is_never_touched(tmp_path: Path, rclone: Callable[..., None]) -> None:
    rclone("")
    with pytest.raises(Failed, match="the same bucket"):
        bucket.copy(OLD, OLD, delete=True, say=lambda _: None)
    assert not (tmp_path / "calls.jsonl").exists()


def test_differences_are_told_by_name(rclone: Callable[..., None]) -> None:
    rclone("= kyb/same.pdf\n+ invoices/a b.pdf\n- tmp/x\n* invoices/1.pdf", 1)
    assert bucket.differences(OLD, NEW) == [
        "bucket: invoices/a b.pdf: only there",
        "bucket: tmp/x: only here",
        "bucket: invoices/1.pdf: differs",
    ]


def test_what_rclone_says_is_told(rclone: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    rclone("", 3)
    with pytest.raises(Failed, match="rclone copy"):
        bucket.copy(OLD, NEW, delete=False, say=lambda _: None)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Failed, match="apt-get install rclone"):
        bucket.copy(OLD, NEW, delete=False, say=lambda _: None)


def test_a_file_without_the_bucket_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, values in (("old", {"AWS_BUCKET": "x"}), ("new", NEW)):
        (tmp_path / f"{name}.env").write_text("".join(f"{k}={v}\n" for k, v in values.items()))
    assert main(["--old", str(tmp_path / "old.env"), "--new", str(tmp_path / "new.env"), "bucket"]) == 1
    said = capsys.readouterr().err
    assert "the old .env has no AWS_ACCESS_KEY_ID" in said
    assert "secret" not in said.replace("AWS_SECRET_ACCESS_KEY", "")
