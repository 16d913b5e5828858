"""Derived stack files: the committed text, with made-up secrets in place of the encrypted ones."""

import base64
import json
import stat

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

from sandbox.errors import SandboxError
from sandbox.stacks import Cipher, derive, passphrase_file, stacks

SCHEMA = {
    "properties": {"config": {"properties": {"berth:secrets": {"properties": {"shop": {
        "properties": {
            "deploy_key": {"x-berth-kind": "ssh-private-key", "x-berth-usual": False},
            "token": {"x-berth-kind": "text", "x-berth-usual": True},
            "client_certificate": {"x-berth-kind": "certificate", "x-berth-usual": True},
            "client_key": {"x-berth-kind": "certificate-key", "x-berth-usual": True},
            "old_key": {"x-berth-kind": "app-key", "x-berth-usual": False},
        },
    }}}}}}
}  # fmt: skip
COMMITTED = """\
# yaml-language-server: $schema=./config/stack.schema.json
secretsprovider: awskms://alias/prod
encryptionsalt: v1:theirs
config:
  scaleway:region: fr-par # stays
  release: 010
  berth:secrets:
    shop:
      deploy_key: {secure: v1:theirs}
  berth:systems:
    shop: {cloud: scaleway}
"""


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "stack.schema.json").write_text(json.dumps(SCHEMA))
    (tmp_path / ".sandbox").mkdir()
    return tmp_path


def derived(checkout, text):
    """(text, parsed, secrets by path) of what is derived from a committed ``text``."""
    (checkout / "Pulumi.prod.yaml").write_text(text)
    state = checkout / ".sandbox"
    made = derive(checkout, state, "prod").read_text()
    parsed = yaml.load(made, yaml.BaseLoader)
    cipher = Cipher(passphrase_file(state).read_text(), parsed["encryptionsalt"])
    shop = parsed["config"]["berth:secrets"]["shop"]
    return made, parsed, {name: cipher.decrypt(value["secure"]) for name, value in shop.items()}


def test_the_text_stays_and_secrets_are_made_up(checkout):
    text, parsed, secrets = derived(checkout, COMMITTED)
    assert "scaleway:region: fr-par # stays\n  release: 010\n" in text
    assert "theirs" not in text
    assert "secretsprovider" not in parsed
    assert isinstance(load_ssh_private_key(secrets["deploy_key"].encode(), None), Ed25519PrivateKey)
    assert len(secrets["token"]) == 32  # required, and not in the committed file yet
    assert (checkout / "Pulumi.prod.yaml").read_text() == COMMITTED
    path = checkout / ".sandbox/stacks/Pulumi.prod.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_certificate_and_its_key_belong_together_and_stay_so(checkout):
    _, parsed, secrets = derived(checkout, COMMITTED)
    for _ in range(2):
        key = load_pem_private_key(secrets["client_key"].encode(), None)
        shown = x509.load_pem_x509_certificate(secrets["client_certificate"].encode())
        assert shown.public_key() == key.public_key()
        # One of the two is lost: both are made anew.
        file = checkout / ".sandbox/stacks/Pulumi.prod.yaml"
        lost = parsed["config"]["berth:secrets"]["shop"]["client_key"]["secure"]
        assert lost in file.read_text()
        file.write_text(file.read_text().replace("client_key", "other_key"))
        _, parsed, again = derived(checkout, COMMITTED)
        assert again["client_certificate"] != secrets["client_certificate"]
        assert again["token"] == secrets["token"]
        secrets = again


def test_an_applications_key_looks_like_one(checkout):
    text = COMMITTED.replace("deploy_key:", "old_key:")
    _, _, secrets = derived(checkout, text)
    assert len(base64.b64decode(secrets["old_key"].removeprefix("base64:"))) == 32


def test_stand_ins_stay_while_the_rest_changes(checkout):
    first, _, before = derived(checkout, COMMITTED)
    again, _, same = derived(checkout, COMMITTED)
    assert (again, same) == (first, before)
    rotated = COMMITTED.replace("fr-par", "nl-ams").replace("v1:theirs", "v1:rotated")
    changed, _, after = derived(checkout, rotated)
    assert "nl-ams" in changed
    assert after == before


@pytest.mark.parametrize(
    "text",
    [
        "config:\n  berth:systems: {shop: {cloud: x}}\n",
        "config: {berth:systems: {shop: {cloud: x}}}\n",
        "config:\n  berth:secrets: {shop: {deploy_key: {secure: a}}}\n  berth:systems: {shop: {cloud: x}}\n",
    ],
)
def test_a_missing_secret_finds_its_place_in_any_style(checkout, text):
    _, parsed, secrets = derived(checkout, text)
    assert len(secrets["token"]) == 32
    assert parsed["config"]["berth:systems"] == {"shop": {"cloud": "x"}}


def test_a_system_that_is_not_in_the_stack_needs_no_secrets(checkout):
    (checkout / "Pulumi.prod.yaml").write_text("config: {a: b}\n")
    assert "token" not in derive(checkout, checkout / ".sandbox", "prod").read_text()


def test_what_cannot_be_derived_is_said(checkout):
    with pytest.raises(SandboxError, match=r"there is no Pulumi\.dev\.yaml .*stacks here: none"):
        derive(checkout, checkout / ".sandbox", "dev")
    (checkout / "Pulumi.dev.yaml").write_text("- a\n")
    with pytest.raises(SandboxError, match=r"Pulumi\.dev\.yaml: expected settings under `config:`"):
        derive(checkout, checkout / ".sandbox", "dev")


def test_stacks_are_the_committed_files(checkout):
    for name in ("Pulumi.yaml", "Pulumi.b.yaml", "Pulumi.a-1.yaml", "Pulumi.yaml.orig"):
        (checkout / name).write_text("")
    assert list(stacks(checkout)) == ["a-1", "b"]
