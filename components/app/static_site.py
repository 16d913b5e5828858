"""A static site from Git: built on its host with npm, released by switching one link.

The plain way, for a first release of one site on one host; ``/srv/<app>`` has the layout all releases have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pulumi import Input, ResourceOptions

from components.app.release import KEEP, deploy_keys, identifier
from components.cloud import Instance, Scope
from components.remote.files import File
from components.remote.runner import Step, StepArgs

ROOM = Path(__file__).parent

PACKAGES = ("git", "openssh-client", "python3-pip-whl")
"""For the host's one package transaction, see components/host/baseline.py."""


@dataclass(frozen=True, kw_only=True)
class StaticSiteArgs:
    """``release`` is a tag or a full commit of ``repository``; its ``npm run build`` fills ``dist/``.

    ``variables`` go into the build and are published with it. ``deploy_key``: private SSH key (secret) that
    may read the repository.
    """

    scope: Scope
    instance: Instance
    host: str
    app: str
    repository: str
    release: str
    node: Literal["20", "22"]
    variables: Mapping[str, str] = field(default_factory=dict)
    deploy_key: Input[str] | None = None


def site_root(app: str) -> str:
    """The directory a web server serves ``app`` from; it changes with each release, at once."""
    return f"/srv/{app}/current/dist"


def release_id(args: StaticSiteArgs) -> str:
    """Name of the release's directory: the tag, and a hash of all else that makes the built site."""
    return identifier(args.release, [args.release, args.repository, _node(args), dict(args.variables)])


def static_site(name: str, args: StaticSiteArgs, opts: ResourceOptions | None = None) -> Step:
    """Runs after the baseline; its lock is its own, so that it builds while the web server is set up.

    Facts: ``release``, ``commit``, ``id``, and ``before``, the id that was live until then ("" at first).
    """
    files = [
        File(path="node.txt", content=_node(args)),
        File(path="release.sh", content=(ROOM / "release.sh").read_text(encoding="utf-8")),
        File(path="build.sh", content=(ROOM / "build.sh").read_text(encoding="utf-8")),
        File(path="check_site.py", content=(ROOM / "check_site.py").read_text(encoding="utf-8")),
        *deploy_keys(args.deploy_key),
    ]
    step = f"release-{args.app}"
    return Step(
        name,
        StepArgs(
            scope=args.scope,
            instance=args.instance,
            step=step,
            host=args.host,
            script=ROOM / "static_site.sh",
            files=files,
            environment={
                **args.variables,
                "APP": args.app,
                "REPOSITORY": args.repository,
                "RELEASE": args.release,
                "ID": release_id(args),
                "VARIABLES": " ".join(sorted(args.variables)),
                "KEEP": str(KEEP),
                "UNIT": f"berth-{step}.service",
            },
            timeout=900,
            lock=f"app-{args.app}",
        ),
        opts,
    )


def _node(args: StaticSiteArgs) -> str:
    return (ROOM / f"node-{args.node}.txt").read_text(encoding="utf-8")
