"""How long the engine and the twins take for a big stack: `python benchmarks/record_only.py [COUNT]`.

Creates, previews and destroys COUNT resources (default 600) in a temporary checkout; nothing is run. The
second figure is processor time of the twins themselves. Figures depend on the machine;
the ones that count are in docs/evidence.md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = """
from pulumiverse_scaleway import domain, instance, network
import pulumi_command as command

for index in range({hosts}):
    net = network.PrivateNetwork(f"net-{{index}}")
    ip = instance.Ip(f"ip-{{index}}")
    vm = instance.Server(f"vm-{{index}}", type="DEV1-S", image="debian_bookworm", ip_ids=[ip.id])
    instance.PrivateNic(f"nic-{{index}}", server_id=vm.id, private_network_id=net.id)
    domain.Record(f"name-{{index}}", dns_zone="example.org", type="A", name=f"n{{index}}", data=ip.address)
    command.remote.Command(f"run-{{index}}", connection={{"host": ip.address}}, create="true")
"""


def main() -> None:
    """Print seconds for each step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("count", nargs="?", type=int, default=600)
    count = parser.parse_args().count
    sys.path.insert(0, str(ROOT))
    from sandbox import engine, paths

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "Pulumi.yaml").write_text("name: big\nruntime: python\n")
        (root / "Pulumi.big.yaml").write_text("config: {}\n")
        (root / "__main__.py").write_text(PROGRAM.format(hosts=count // 6))
        (root / ".venv").symlink_to(ROOT / ".venv")
        shutil.copy(ROOT / ".sandbox" / "toolchain.json", paths.state(root))
        with engine.session(root) as session:
            session.ensure("big")
            for step, options in (
                ("up", ["--yes", "--skip-preview"]),
                ("preview", ["--expect-no-changes"]),
                ("destroy", ["--yes", "--skip-preview"]),
            ):
                command = [str(session.tools.pulumi), step, "--stack", "big", "--non-interactive", *options]
                command += ["--config-file", str(session.config_file("big"))]
                start, own = time.monotonic(), time.process_time()
                subprocess.run(
                    command, cwd=root, env=session.environment, stdout=subprocess.DEVNULL, check=True
                )
                took, own = time.monotonic() - start, time.process_time() - own
                print(f"{step:8} {took:6.1f} s for {count} resources, of which twins {own:.1f} s", flush=True)


if __name__ == "__main__":
    main()
