"""The registries are what the clients of this machine say, and nothing that is written here."""

from __future__ import annotations

import base64
import http.client
import json

from sandbox.internet import registries

SOURCES = """\
Types: deb
# http://commented.example/debian
URIs: http://mirror.example/debian mirror+file:/etc/apt/mirrors/none.list
Suites: bookworm
"""


def test_apts_sources_are_read_in_both_forms(tmp_path, monkeypatch):
    (tmp_path / "a.sources").write_text(SOURCES)
    (tmp_path / "b.list").write_text("deb [signed-by=/k.gpg] https://other.example/x y main\n")
    (tmp_path / "c.list.disabled").write_text("deb http://disabled.example/x y main\n")
    monkeypatch.setattr(registries, "_files", lambda _: sorted(tmp_path.iterdir()))
    assert list(registries._apt()) == ["http://mirror.example/debian", "https://other.example/x"]


def test_what_cannot_be_passed_is_a_note(monkeypatch):
    monkeypatch.setattr(
        registries, "_pip", lambda _: iter(["http://plain.example/simple", "https://a.example/simple"])
    )
    monkeypatch.setattr(
        registries, "_npm", lambda _: iter(["https://b.example:8443/", "https://a.example/npm"])
    )
    monkeypatch.setattr(
        registries,
        "_apt",
        lambda: iter(["http://deb.example/d", "https://a.example/d", "ftp://old.example/d"]),
    )
    found = registries.ask()
    assert found.passed == ["a.example"]
    assert found.mirrors == {"deb.example": "http"}
    for word in ("plain.example", "b.example:8443", "ftp://old.example"):
        assert any(word in note for note in found.notes)


def test_a_machine_without_npm_says_so(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    notes: list[str] = []
    assert list(registries._npm(notes)) == []
    assert "npm is not installed" in notes[0]


def test_files_may_lie_on_another_host_than_their_index():
    page = json.dumps(
        {"files": [{"url": "https://files.example/a/b.whl"}, {"url": "https://files.example/c.whl"}]}
    )
    assert list(registries._origins(page)) == ["https://files.example"]


def test_a_password_goes_to_its_registry_and_nowhere_else(monkeypatch):
    asked = []

    def refuse(request, timeout):
        asked.append((request.full_url, request.get_header("Authorization")))
        raise http.client.IncompleteRead(b"")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    notes: list[str] = []
    assert registries._get("https://me:p%40ss@index.example:8443/pip/", "*/*", notes) == ""
    token = base64.b64encode(b"me:p@ss").decode()
    assert asked == [("https://index.example:8443/pip/", f"Basic {token}")]
    assert notes[0].startswith("https://index.example:8443/pip/ does not answer")
    monkeypatch.setattr(registries, "_pip", lambda _: iter(["http://me:secret@plain.example/simple"]))
    monkeypatch.setattr(registries, "_npm", lambda _: iter([]))
    monkeypatch.setattr(registries, "_apt", lambda: iter(["ftp://me:secret@old.example/d"]))
    assert "secret" not in "".join(registries.ask().notes)
