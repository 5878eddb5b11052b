"""The RayJob: its fields are KubeRay's, and its settings are safe; no Kubernetes is asked."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cluster.preflight import lint
from search.run import parser

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "cluster" / "kubernetes"
FILE = FOLDER / "rayjob.yaml"


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "required": list(required),
    }


TEXT, NUMBER, YES_NO, ANY = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "boolean"},
    {"type": "object"},
)
TEXTS = {"type": "object", "additionalProperties": TEXT}
CONFINED = closed(
    runAsNonRoot=YES_NO,
    allowPrivilegeEscalation=YES_NO,
    capabilities=ANY,
    seccompProfile=ANY,
    readOnlyRootFilesystem=YES_NO,
)
RESOURCES = closed(requests=TEXTS, limits=TEXTS)
VARIABLE = closed(
    ("name",),
    name=TEXT,
    value=TEXT,
    valueFrom=closed(secretKeyRef=closed(("name", "key"), name=TEXT, key=TEXT)),
)
CONTAINER = closed(
    ("name", "image", "resources"),
    name=TEXT,
    image=TEXT,
    securityContext=CONFINED,
    resources=RESOURCES,
    env={"type": "array", "items": VARIABLE},
    volumeMounts={
        "type": "array",
        "items": closed(("name", "mountPath"), name=TEXT, mountPath=TEXT),
    },
)
POD = closed(
    ("containers",),
    serviceAccountName=TEXT,
    terminationGracePeriodSeconds=NUMBER,
    securityContext=closed(
        runAsNonRoot=YES_NO, runAsUser=NUMBER, runAsGroup=NUMBER, fsGroup=NUMBER
    ),
    tolerations={
        "type": "array",
        "items": closed(key=TEXT, operator={"enum": ["Exists", "Equal"]}, value=TEXT, effect=TEXT),
    },
    containers={"type": "array", "items": CONTAINER, "minItems": 1},
    volumes={
        "type": "array",
        "items": closed(("name",), name=TEXT, emptyDir=closed(medium=TEXT, sizeLimit=TEXT)),
    },
)
GROUP = {"rayStartParams": TEXTS, "template": closed(("spec",), metadata=ANY, spec=POD)}
CLUSTER = closed(
    ("headGroupSpec", "rayVersion"),
    rayVersion=TEXT,
    authOptions=closed(("mode",), mode={"enum": ["disabled", "token"]}, secretName=TEXT),
    enableInTreeAutoscaling=YES_NO,
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=NUMBER,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        resources=RESOURCES,
        securityContext=CONFINED,
    ),
    headGroupSpec=closed(("rayStartParams", "template"), serviceType=TEXT, **GROUP),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            ("groupName", "rayStartParams", "template"),
            groupName=TEXT,
            replicas=NUMBER,
            minReplicas=NUMBER,
            maxReplicas=NUMBER,
            idleTimeoutSeconds=NUMBER,
            **GROUP,
        ),
    },
)
RAYJOB = closed(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=closed(("name",), name=TEXT, namespace=TEXT),
    spec=closed(
        ("entrypoint", "rayClusterSpec"),
        entrypoint=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        shutdownAfterJobFinishes=YES_NO,
        ttlSecondsAfterFinished=NUMBER,
        activeDeadlineSeconds=NUMBER,
        backoffLimit=NUMBER,
        runtimeEnvYAML=TEXT,
        rayClusterSpec=CLUSTER,
    ),
)
"""The fields that are used here, and their neighbours, as KubeRay's API reference (v1.6) and
Kubernetes have them.
"""


def job(text: str = "") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text or FILE.read_text())
    return found


def test_every_field_is_one_that_kuberay_knows() -> None:
    jsonschema.validate(job(), RAYJOB)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("authOptions", "authOption"),
        ("minReplicas", "minimumReplicas"),
        ("HTTPMode", "HttpMode"),
        ('"110"', "110"),
    ],
)
def test_a_misspelt_field_is_found(right: str, wrong: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(job(FILE.read_text().replace(right, wrong)), RAYJOB)


def test_it_is_safe() -> None:
    assert lint.problems(job()) == []


MISTAKES = [
    ("{mode: token}", "{mode: disabled}", "does not require a token"),
    ("    authOptions: {mode: token}", "    suspend: false", "does not require a token"),
    (
        "serviceType: ClusterIP",
        "serviceType: LoadBalancer",
        "headGroupSpec.serviceType LoadBalancer makes the head reachable from outside",
    ),
    ("runAsNonRoot: true", "runAsNonRoot: false", "gpu may run as root"),
    (
        "allowPrivilegeEscalation: false",
        "allowPrivilegeEscalation: true",
        "headGroupSpec may run as root",
    ),
    ("        capabilities: {drop: [ALL]}", "        privileged: true", "gpu may run as root"),
    ('num-cpus: "0", ', "", "headGroupSpec: trials would run on the head"),
    (
        "valueFrom: {secretKeyRef: {name: search-mlflow, key: password}}",
        "value: hunter22",
        "headGroupSpec: the file contains the value of MLFLOW_TRACKING_PASSWORD",
    ),
    (
        "search:1",
        "search:latest",
        "gpu: the image 'registry.example.com/search:latest' is not pinned to a version",
    ),
    (
        "registry.example.com/search:1",
        "rayproject/ray:2.59.0-py311",
        "different versions of Ray (2.59.0, 2.60.0)",
    ),
    (
        "            tolerations:",
        "            hostNetwork: true\n            tolerations:",
        "gpu uses the host's network",
    ),
    (
        "http://mlflow",
        "http://me:hunter22@mlflow",
        "spec.entrypoint contains a password in an address",
    ),
]


@pytest.mark.parametrize(("right", "wrong", "words"), MISTAKES)
def test_a_planted_mistake_is_named(right: str, wrong: str, words: str) -> None:
    text = FILE.read_text()
    assert right in text
    said = lint.problems(job(text.replace(right, wrong)))
    assert any(words in line for line in said), said
    assert not any("hunter22" in line for line in said)


def test_the_search_that_it_runs_is_one_that_there_is() -> None:
    """The module and its options exist; the user fills in the place for the results."""
    python, module, name, *options = job()["spec"]["entrypoint"].split()
    assert (python, module, name) == ("python", "-m", "search.run")
    known = {word for action in parser()._actions for word in action.option_strings}
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert set(given) <= known
    assert given["--address"] == "auto"
    assert given["--storage"].startswith("s3://")
    assert given["--tracking"].startswith("http://")


def test_workers_come_with_the_work_and_may_finish_their_epoch() -> None:
    spec = job()["spec"]["rayClusterSpec"]
    assert spec["enableInTreeAutoscaling"] is True
    (group,) = spec["workerGroupSpecs"]
    assert (group["replicas"], group["minReplicas"]) == (0, 0)
    pod = group["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    drained = {variable["name"]: variable["value"] for variable in container["env"]}[
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    ]
    assert 60 <= float(drained) < pod["terminationGracePeriodSeconds"]


def test_the_image_has_the_same_versions_as_every_other_cluster() -> None:
    pinned = re.search(
        r"^ray==(.+)$", (ROOT / "cluster" / "requirements.txt").read_text(), re.MULTILINE
    )
    assert pinned is not None
    assert job()["spec"]["rayClusterSpec"]["rayVersion"] == pinned[1]
    image = (FOLDER / "Dockerfile").read_text()
    assert f"FROM rayproject/ray:{pinned[1]}-py311\n" in image
    assert "cluster/requirements.txt" in image


def test_only_the_own_namespace_and_the_operator_reach_the_pods() -> None:
    policy = yaml.safe_load((FOLDER / "network.yaml").read_text())
    assert (policy["apiVersion"], policy["kind"], policy["spec"]["policyTypes"]) == (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        ["Ingress"],
    )
    (rule,) = policy["spec"]["ingress"]
    assert {key for source in rule["from"] for key in source} == {
        "podSelector",
        "namespaceSelector",
    }
