"""A new version of a provider's schema becomes a table, keeping what only the old table knows."""

import json
import subprocess
import sys
from pathlib import Path

from sandbox.schemas.trim import render
from sandbox.twins import tables

TRIM = Path(tables.__file__).parent.parent / "schemas" / "trim.py"
SCHEMA = {
    "name": "cloud",
    "config": {"variables": {"token": {"type": "string", "secret": True}}},
    "resources": {
        "cloud:index/vm:Vm": {
            "inputProperties": {
                "size": {"type": "string"},
                "disk": {"$ref": "#/types/cloud:index%2FDisk:Disk"},
                "mode": {"$ref": "#/types/cloud:index%2FMode:Mode"},
                "zone": {"type": "string", "willReplaceOnChanges": True},
            },
            "requiredInputs": ["size"],
            "properties": {"size": {"type": "string"}, "zone": {"type": "string", "replaceOnChanges": True}},
            "required": ["size"],
        },
        "cloud:index/other:Other": {},
    },
    "types": {
        "cloud:index/Disk:Disk": {
            "properties": {"parts": {"type": "array", "items": {"$ref": "#/types/cloud:index%2FPart:Part"}}},
            "required": ["parts"],
        },
        "cloud:index/Part:Part": {"properties": {"gb": {"type": "integer"}}},
        "cloud:index/Mode:Mode": {"type": "string", "enum": [{"value": "a"}, {"value": "b"}]},
    },
}


def trim(tmp_path, *arguments):
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(SCHEMA))
    done = subprocess.run(
        [sys.executable, str(TRIM), str(path), "--version", "2", *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_schema_becomes_a_table(tmp_path):
    made = json.loads(trim(tmp_path, "cloud:index/vm*"))
    assert made["resources"] == {
        "cloud:index/vm:Vm": {
            "inputs": {
                "size": {"type": "string", "required": True},
                "disk": {"type": "#cloud:index/Disk:Disk"},
                "mode": {"type": "string", "enum": ["a", "b"]},
                "zone": {"type": "string", "replace": True},
            },
            "outputs": {"size": {"type": "string", "required": True}, "zone": {"type": "string"}},
        }
    }
    assert made["types"]["cloud:index/Disk:Disk"]["parts"] == {
        "type": "array<#cloud:index/Part:Part>",
        "required": True,
        "present": True,
    }
    assert "cloud:index/Part:Part" in made["types"]


def test_what_only_the_old_table_knows_is_kept(tmp_path):
    old = json.loads(trim(tmp_path, "cloud:index/vm*"))
    vm = old["resources"]["cloud:index/vm:Vm"]
    vm["inputs"]["size"] |= {"computed": True, "required": False}
    vm["upstream"] = "cloud_vm"
    (tmp_path / "old.json").write_text(json.dumps(old))
    new = json.loads(trim(tmp_path, "--like", str(tmp_path / "old.json")))["resources"]
    assert new.keys() == {"cloud:index/vm:Vm"}
    assert new["cloud:index/vm:Vm"]["inputs"]["size"] == {
        "type": "string",
        "required": True,
        "computed": True,
    }
    assert new["cloud:index/vm:Vm"]["upstream"] == "cloud_vm"


def test_the_tables_here_are_in_the_form_it_writes():
    for name in tables.available():
        text = (tables.DIRECTORY / f"{name}.json").read_text()
        assert render(json.loads(text)) == text
