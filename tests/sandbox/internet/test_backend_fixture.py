"""The backend fixture as Composer and a host find it, without PHP: what the published repository holds."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest

from sandbox.internet import git
from sandbox.internet.layout import Layout

URL = "https://github.com/scell-io/backend.git"
TAGS = ["v1.0.0", "v1.1.0", "v1.2.0-broken", "v1.3.0-unhealthy"]
MOST_LINES = 1000  # of PHP, all releases together, without blank lines and comments
COMMANDS = (
    *("about", "migrate", "migrate:status", "config:cache", "route:cache", "view:cache", "event:cache"),
    *("cache:clear", "down", "up", "key:generate", "horizon", "horizon:terminate", "horizon:status"),
    *("queue:failed", "queue:retry", "schedule:run", "schedule:list"),
)
SCHEDULED = {
    "fiscal:daily-closing",
    "fiscal:monthly-closing",
    "fiscal:integrity-check",
    "fiscal:check-version-change",
    "billing:generate-monthly-invoices",
    "superpdp:sync-statuses",
    "horizon:snapshot",
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkout of each tag."""
    root = tmp_path_factory.mktemp("git")
    (backend,) = (repository for repository in git.repositories() if repository.url == URL)
    assert [release.tag for release in backend.releases] == TAGS
    layout = Layout(root)
    git.publish(layout)
    found = {}
    for tag in TAGS:
        found[tag] = root / tag
        source = str(layout.git / backend.path)
        words = [
            "git",
            "-c",
            "advice.detachedHead=false",
            "clone",
            "--quiet",
            "--branch",
            tag,
            source,
            str(root / tag),
        ]
        subprocess.run(words, check=True)
    return found


def migrations(tree: Path) -> list[str]:
    return sorted(path.name for path in (tree / "database/migrations").iterdir())


def test_it_is_laid_out_as_laravel_and_composer_needs_nothing_from_the_net(trees: dict[str, Path]) -> None:
    tree = trees["v1.0.0"]
    for path in (
        "artisan",
        "public/index.php",
        "routes/web.php",
        "routes/console.php",
        "bootstrap/cache/.gitignore",
    ):
        assert (tree / path).exists(), path
    assert (tree / "artisan").stat().st_mode & 0o111
    package = json.loads((tree / "composer.json").read_text())
    assert {"packagist.org": False} in package["repositories"]
    assert {repository["type"] for repository in package["repositories"] if "type" in repository} == {"path"}
    lock = json.loads((tree / "composer.lock").read_text())
    locked = [*lock["packages"], *lock["packages-dev"]]
    assert {(one["name"], one["dist"]["type"]) for one in locked} == {
        ("scell-io/foundation", "path"),
        ("scell-io/testing", "path"),
    }
    assert [one["name"] for one in lock["packages"]] == ["scell-io/foundation"]
    wanted = {name for name in [*package["require"], *package["require-dev"]] if "/" in name}
    assert wanted == {one["name"] for one in locked}


def test_each_release_is_what_its_name_says(trees: dict[str, Path]) -> None:
    versions = {tag: (tree / "VERSION").read_text().strip() for tag, tree in trees.items()}
    assert versions == {tag: tag.removeprefix("v").partition("-")[0] for tag in TAGS}
    found = [set(migrations(tree)) for tree in trees.values()]
    assert [len(later - earlier) for earlier, later in itertools.pairwise(found)] == [1, 1, 0]
    (broken,) = found[2] - found[1]
    texts = [(trees[tag] / "database/migrations" / broken).read_text() for tag in TAGS[2:]]
    assert "REFERENCES bills" in texts[0]  # which no migration makes
    assert "REFERENCES invoices" in texts[1]
    assert "'degraded'" in (trees["v1.3.0-unhealthy"] / "app/Health.php").read_text()
    lines = {str(path.relative_to(trees["v1.0.0"])) for path in trees["v1.0.0"].rglob("*.lock")}
    assert lines == {"composer.lock"}
    locks = {(tree / "composer.lock").read_bytes() for tree in trees.values()}
    assert len(locks) == 1


def test_artisan_has_the_commands_and_the_schedule_of_the_source(trees: dict[str, Path]) -> None:
    tree = trees["v1.0.0"]
    console = (tree / "packages/foundation/src/Console.php").read_text()
    assert [name for name in COMMANDS if f"'{name}' =>" not in console] == []
    own = (tree / "app/Commands.php").read_text()
    assert [name for name in SCHEDULED if f"'{name}' =>" not in own] == []
    scheduled = dict(re.findall(r"'([\w:-]+)' => '([^']+)'", (tree / "routes/console.php").read_text()))
    assert set(scheduled) == SCHEDULED
    assert all(len(when.split()) == 5 for when in scheduled.values())


def test_it_stays_small() -> None:
    counted = 0
    for directory in git.FIXTURES.glob("scell-backend*"):
        for path in [*directory.rglob("*.php"), *directory.glob("artisan")]:
            lines = (line.strip() for line in path.read_text().splitlines())
            counted += sum(bool(line) and not line.startswith(("//", "/*", "*")) for line in lines)
    assert 500 < counted < MOST_LINES
