"""Everything inject writes is valid for the Kubernetes API: strictly, so that no field is misspelt."""

from __future__ import annotations

import kubernetes_validate
import pytest

from tests.unit.kubernetes.cases import CASES, Case
from tests.unit.kubernetes.manifests import documents

VERSIONS = ["1.29", kubernetes_validate.latest_version()]
CUSTOM = {"monitoring.coreos.com/v1", "example.com/v1", "agones.dev/v1", "argoproj.io/v1alpha1"}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_inject_writes_validates(case: Case, version: str) -> None:
    """Each object of each golden output fits the schema of the oldest and of the newest Kubernetes known."""
    checked = 0
    for document in documents(case.after.read_text()):
        for obj in document["items"] if document.get("kind") == "List" else [document]:
            if obj.get("apiVersion", "example.com/v1") not in CUSTOM:
                kubernetes_validate.validate(obj, version, strict=True)
                checked += 1
    assert checked or case.name == "custom-kind"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_check_sees_a_misspelt_field(version: str) -> None:
    """The validation is strict: a field that does not exist is found."""
    case = next(case for case in CASES if case.name == "named-port")
    workload = documents(case.after.read_text())[0]
    workload["spec"]["template"]["spec"]["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError, match="restartpolicy"):
        kubernetes_validate.validate(workload, version, strict=True)
