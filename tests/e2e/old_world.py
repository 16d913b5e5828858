"""Where an application lived before: a database server and a bucket in the cloud of a checkout.

    old_world.py ROOT make      makes them; prints the old application's `.env`
    old_world.py ROOT remove    removes them

A program of its own: real mode moves its process into the checkout's network.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

STACK, PASSWORD = "old", "Old!secret 'x' $y"
INSTANCE, NETWORK = "scaleway:databases/instance:Instance", "scaleway:network/privateNetwork:PrivateNetwork"
APPLICATION, POLICY, KEY = (
    "scaleway:iam/application:Application",
    "scaleway:iam/policy:Policy",
    "scaleway:iam/apiKey:ApiKey",
)
PERMISSIONS = [
    *("ObjectStorageBucketsRead", "ObjectStorageObjectsDelete"),
    *("ObjectStorageObjectsRead", "ObjectStorageObjectsWrite"),
]


def main() -> None:
    root, what = Path(sys.argv[1]), sys.argv[2]
    os.environ["BERTH_ROOT"] = str(root)
    from sandbox import real
    from sandbox.inventory import open_store
    from sandbox.twins.cloud import Cloud
    from tests.twins.conftest import SETTINGS, Twin

    world = real.prepare(root)
    from sandbox.effects.registry import EFFECTS

    store = open_store(root / ".sandbox")
    twin = Twin(Cloud(store, world, EFFECTS))

    def create(token: str, label: str = "it", /, **inputs: Any) -> Any:
        return twin.create(token, inputs, f"old-{label}", stack=STACK)

    if what == "remove":
        for row in reversed(store.every(STACK)):
            twin.cloud.remove(row)
        return
    project = SETTINGS["projectId"]
    network = next(row for row in store.all(NETWORK) if row.stack == "sandbox")
    instance = create(
        INSTANCE, engine="PostgreSQL-17", nodeType="DB-DEV-S", userName="ploi", password=PASSWORD,
        volumeType="sbs_5k", volumeSizeInGb=10, privateNetwork={"pnId": network.id, "enableIpam": True},
    )  # fmt: skip
    rules = [{"ip": "10.0.0.0/8", "description": "as on a host that was set up by hand"}]
    create("scaleway:databases/acl:Acl", instanceId=instance.id, aclRules=rules)
    create("scaleway:databases/user:User", instanceId=instance.id, name="scell", password=PASSWORD)
    for database in ("scell_production", "scell_sandbox"):
        create("scaleway:databases/database:Database", database, instanceId=instance.id, name=database)
        create(
            "scaleway:databases/privilege:Privilege", database, instanceId=instance.id,
            databaseName=database, userName="scell", permission="all",
        )  # fmt: skip
    bucket = create("scaleway:object/bucket:Bucket", name="ploi-files", forceDestroy=True)
    application = create(APPLICATION, name="ploi")
    create(
        POLICY,
        applicationId=application.id,
        rules=[{"permissionSetNames": PERMISSIONS, "projectIds": [project]}],
    )
    key = create(KEY, applicationId=application.id, defaultProjectId=project)
    where = instance.outputs["privateNetwork"]
    print(json.dumps({
        "DB_CONNECTION": "pgsql", "DB_HOST": where["ip"], "DB_PORT": str(where["port"]),
        "DB_DATABASE": "scell_production", "DB_USERNAME": "scell", "DB_PASSWORD": PASSWORD,
        "DB_SSLMODE": "require",
        "DB_DATABASE_SANDBOX": "scell_sandbox",
        "AWS_ACCESS_KEY_ID": key.outputs["accessKey"], "AWS_SECRET_ACCESS_KEY": key.outputs["secretKey"],
        "AWS_DEFAULT_REGION": "fr-par", "AWS_BUCKET": bucket.outputs["name"],
        "AWS_ENDPOINT": "https://s3.fr-par.scw.cloud", "AWS_USE_PATH_STYLE_ENDPOINT": "true",
    }))  # fmt: skip


if __name__ == "__main__":
    main()
