from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from components.cloud import BucketArgs, Expiry, Unsupported
from components.scaleway.bucket import Bucket
from tests import mocks
from tests.contracts.samples import MANAGER, PROJECT, scope

BUCKET = "scaleway:object/bucket:Bucket"


def run(*, keep: bool = True, project: str | None = PROJECT, **changes: Any) -> mocks.Run:
    where = replace(scope("scaleway", keep_data=keep), project_id=project)
    args = BucketArgs(scope=where, bucket="scell-storage", managers=(MANAGER,))
    return mocks.run(lambda: Bucket("files", replace(args, **changes)).outputs)


def statements(made: mocks.Run) -> dict[str, Any]:
    policy = json.loads(made.one("BucketPolicy").inputs["policy"])
    assert policy["Version"] == "2023-04-17"
    return {statement["Sid"]: statement for statement in policy["Statement"]}


def test_the_bucket_is_called_as_asked_and_tagged_with_a_map() -> None:
    inputs = run().one(BUCKET).inputs
    assert (inputs["name"], inputs["region"]) == ("scell-storage", "fr-par")
    assert inputs["tags"]["berth-system"] == "scell"


@pytest.mark.parametrize("versioning", [True, False])
def test_versioning(versioning: bool) -> None:
    assert run(versioning=versioning).one(BUCKET).inputs["versioning"] == {"enabled": versioning}


@pytest.mark.parametrize("keep", [True, False])
def test_only_a_bucket_that_need_not_be_kept_goes_with_what_is_in_it(keep: bool) -> None:
    bucket = run(keep=keep).one(BUCKET)
    assert bucket.protect is keep
    assert bucket.inputs["forceDestroy"] is not keep


def test_expired_objects_go_for_good_also_where_versions_are_kept() -> None:
    rule = {"id": "expire-tmp/", "enabled": True, "prefix": "tmp/", "expiration": {"days": 7}}
    expire = (Expiry(prefix="tmp/", days=7),)
    versioned = run(expire=expire).one(BUCKET).inputs["lifecycleRules"]
    assert versioned == [{**rule, "noncurrentVersionExpiration": {"noncurrentDays": 7}}]
    assert run(expire=expire, versioning=False).one(BUCKET).inputs["lifecycleRules"] == [rule]
    assert "lifecycleRules" not in run().one(BUCKET).inputs


@pytest.mark.parametrize("project", [PROJECT, None])
def test_the_key_has_an_identity_of_its_own_in_the_buckets_project(project: str | None) -> None:
    made = run(project=project)
    application = mocks.identifier("files-application")
    where = project or mocks.identifier("project")
    policy, key = made.one("scaleway:iam/policy:Policy"), made.one("ApiKey")
    assert policy.inputs["applicationId"] == key.inputs["applicationId"] == application
    assert key.inputs["defaultProjectId"] == where
    (rule,) = policy.inputs["rules"]
    assert rule["projectIds"] == [where]
    assert all(name.startswith("ObjectStorage") for name in rule["permissionSetNames"])
    assert not [name for name in rule["permissionSetNames"] if "Full" in name or "Policy" in name]


def test_the_buckets_own_policy_names_that_identity_and_the_managers_only() -> None:
    found = statements(run())
    assert set(found) == {"application", "managers"}
    application = mocks.identifier("files-application")
    assert found["application"]["Principal"] == {"SCW": f"application_id:{application}"}
    assert found["managers"]["Principal"] == {"SCW": [MANAGER]}
    assert all(s["Resource"] == ["scell-storage", "scell-storage/*"] for s in found.values())


def test_the_application_reads_and_writes_objects_and_changes_no_rules() -> None:
    actions = statements(run())["application"]["Action"]
    assert {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"} <= set(actions)
    assert not [action for action in actions if "*" in action or "Policy" in action or "Acl" in action]


def test_without_a_manager_it_is_refused_before_it_locks_this_program_out() -> None:
    with pytest.raises(Unsupported, match=r"bucket scell-storage: .*put whom it runs as into `managers`"):
        run(managers=())


def test_an_existing_bucket_is_taken_over() -> None:
    bucket = run(adopt="scell-storage").one(BUCKET)
    assert bucket.import_id == "fr-par/scell-storage"


def test_outputs_with_a_secret_key() -> None:
    made = run()
    assert (made.value.name, made.value.region) == ("scell-storage", "fr-par")
    assert made.value.endpoint == "https://s3.fr-par.scw.cloud"
    assert made.value.access_key.startswith("SCW")
    assert made.value.secret_key == mocks.identifier("files-key-secret")
    assert "secret_key" in made.secret_outputs[made.components[0].urn]
