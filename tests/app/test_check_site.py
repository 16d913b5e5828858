"""What counts as a built site."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from components.app.check_site import faults

PAGE = """<!doctype html><html><head>
<link rel="icon" href="/favicon.svg"><link rel="stylesheet" href="./assets/a.css?v=1">
<link rel="canonical" href="/not-a-file"><script type="module" src="/assets/a%20b.js"></script>
<script src="https://cdn.other.io/x.js"></script><script src="//cdn.other.io/y.js"></script>
</head><body><a href="/route">x</a><img src="data:image/gif;base64,AA"></body></html>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text(PAGE)
    for name in ("favicon.svg", "assets/a.css", "assets/a b.js"):
        (tmp_path / name).write_text("x")
    return tmp_path


def test_a_whole_site_has_no_fault(site: Path) -> None:
    assert list(faults(site)) == []


@pytest.mark.parametrize("name", ["favicon.svg", "assets/a.css", "assets/a b.js"])
def test_each_missing_file_is_named(site: Path, name: str) -> None:
    (site / name).unlink()
    [fault] = faults(site)
    assert name in fault
    assert "not there" in fault


def test_no_page_is_no_site(site: Path) -> None:
    (site / "index.html").unlink()
    assert list(faults(site)) == ["there is no index.html"]


def test_a_link_out_of_the_site_is_refused(site: Path) -> None:
    (site / "assets/passwd").symlink_to("/etc/passwd")
    assert list(faults(site)) == ["assets/passwd is a symbolic link"]


def test_the_program_fails_with_one_line_per_fault(site: Path) -> None:
    (site / "favicon.svg").unlink()
    done = subprocess.run(
        [sys.executable, "-I", "components/app/check_site.py", str(site)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "index.html loads /favicon.svg, which is not there\n")
