"""The manifests and the container file in cluster/kubernetes, held against what reads them."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import time
import tomllib
from contextlib import ExitStack
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import jsonschema
import numpy as np
import pytest
import yaml
import zarr
from dask.utils import parse_bytes
from dask_kubernetes.operator import make_cluster_spec
from dask_kubernetes.operator.validation import validate_cluster_name
from helpers.manifests import made_of, validate
from helpers.problems import attention
from helpers.slurm import free_ports

import dresoftmax

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster" / "kubernetes"
MANIFESTS = {
    (path.stem, manifest["kind"]): manifest
    for path in sorted(FOLDER.glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
}
CLUSTER, JOB = MANIFESTS["cluster", "DaskCluster"], MANIFESTS["job", "DaskJob"]
DASK = {"cluster": CLUSTER, "job": JOB}


def templates(manifest):
    """Return all pods that come of a manifest."""
    made = made_of(manifest)
    deployed = [each["spec"]["template"] for each in made if each["kind"] == "Deployment"]
    return deployed + [each for each in made if each["kind"] == "Pod"]


@pytest.fixture(params=DASK)
def manifest(request):
    return DASK[request.param]


# --- what Kubernetes accepts ---------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS, ids="-".join)
def test_manifests_follow_the_published_schemas(name):
    validate(MANIFESTS[name])


def test_what_the_operator_makes_of_them_follows_the_schemas(manifest):
    made = made_of(manifest)
    kinds = [each["kind"] for each in made]
    assert kinds.count("Deployment") == 2
    assert kinds.count("Pod") == (manifest is JOB)
    validate_cluster_name(manifest["metadata"]["name"])
    for each in made:
        validate(each)


def test_the_operators_own_manifest_passes():
    """The same checks on what `KubeCluster` makes, which servers are known to accept."""
    made = make_cluster_spec("dask", image="dresoftmax", n_workers=2, env={}, resources={})
    for each in (made, *made_of(made)):
        validate(each)


def at(manifest, path):
    *parents, last = path
    for key in parents:
        manifest = manifest[key]
    return manifest, last


WORKER = ("spec", "worker", "spec")
CONTAINER = (*WORKER, "containers", 0)
MISTAKES = {
    "misspelt in the cluster": ((*WORKER[:2], "replica"), 4),
    "misspelt in the pod": ((*WORKER, "automountServiceAccountTokens"), False),
    "misspelt in the container": ((*CONTAINER, "arguments"), ["dask", "worker"]),
    "misspelt deep inside": ((*CONTAINER, "securityContext", "runAsNotRoot"), True),
    "of another type": ((*WORKER[:2], "replicas"), "4"),
    "a number for a quantity": ((*CONTAINER, "resources", "limits", "cpu"), 4),
    "an argument that is a number": ((*CONTAINER, "args"), ["dask", "worker", "--nthreads", 4]),
    "a version of another resource": (("apiVersion",), "kubernetes.dask.org/v2"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused(mistake):
    path, value = MISTAKES[mistake]
    broken = copy.deepcopy(CLUSTER)
    where, key = at(broken, path)
    where[key] = value
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)


@pytest.mark.parametrize(
    "path", [("spec", "scheduler", "service"), ("spec", "worker"), CONTAINER[:-1]]
)
def test_what_is_needed_may_not_be_missing(path):
    broken = copy.deepcopy(CLUSTER)
    where, key = at(broken, path)
    del where[key]
    with pytest.raises(jsonschema.ValidationError):
        validate(broken)


def test_mistakes_in_what_the_operator_makes_are_refused():
    deployment = made_of(CLUSTER)[0]
    deployment["spec"]["template"]["spec"]["securityContext"] = {"runAsUser": "dask"}
    with pytest.raises(jsonschema.ValidationError, match="dask"):
        validate(deployment)


# --- what belongs together -----------------------------------------------------------


def test_a_job_has_the_same_cluster():
    described = dict(CLUSTER["spec"])
    assert described.pop("idleTimeout") > 0
    assert JOB["spec"]["cluster"]["spec"] == described


def test_mounts_probes_and_services_find_what_they_name(manifest):
    made = made_of(manifest)
    data = set()
    for template in templates(manifest):
        (container,) = template["spec"]["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounts) == {volume["name"] for volume in template["spec"]["volumes"]}
        data |= {mounts["data"]} if "data" in mounts else set()
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        probes = [container[name] for name in container if name.endswith("Probe")]
        assert {probe["httpGet"]["port"] for probe in probes} <= set(ports)
    assert len(data) == 1, "files lie under different paths"

    (service,) = (each for each in made if each["kind"] == "Service")
    scheduler = templates(manifest)[0]
    assert service["spec"]["selector"].items() <= scheduler["metadata"]["labels"].items()
    (container,) = scheduler["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in service["spec"]["ports"]:
        assert port["port"] == ports[port["targetPort"]]


def test_a_worker_leaves_room_below_its_limit():
    (container,) = CLUSTER["spec"]["worker"]["spec"]["containers"]
    arguments, limits = container["args"], container["resources"]["limits"]
    held = parse_bytes(arguments[arguments.index("--memory-limit") + 1])
    assert 0.9 * parse_bytes(f"{limits['memory']}B") <= held < parse_bytes(f"{limits['memory']}B")
    assert arguments[arguments.index("--nthreads") + 1] == limits["cpu"]


def test_the_solve_waits_for_the_cluster_of_its_job():
    spec = yaml.safe_load(MANIFESTS["job", "ConfigMap"]["data"]["cluster.yaml"])
    cluster = JOB["spec"]["cluster"]["spec"]
    assert spec["wait_for_workers"] == cluster["worker"]["replicas"]
    (service,) = (each for each in made_of(JOB) if each["kind"] == "Service")
    name, port = spec["address"].removeprefix("tcp://").split(":")
    assert name == service["metadata"]["name"]
    assert int(port) in [each["port"] for each in service["spec"]["ports"]]


# --- what runs -----------------------------------------------------------------------


class Here:
    """Starts what containers run as processes of this machine, on its ports and in `folder`."""

    def __init__(self, folder):
        self.folder = folder
        scheduler, dashboard, worker = map(str, free_ports(3))
        self.instead = {
            "0.0.0.0": "127.0.0.1",
            "dresoftmax-scheduler.default.svc.cluster.local": "127.0.0.1",
            "dresoftmax-scheduler": "127.0.0.1",
            "8786": scheduler,
            ":8787": f"127.0.0.1:{dashboard}",
            ":8788": f"127.0.0.1:{worker}",
            **{path: str(folder) for path in ("/data", "/tmp", "/etc/dresoftmax")},
        }
        self.dashboards = {"scheduler": dashboard, "worker": worker}

    def __call__(self, text):
        return re.sub("|".join(self.instead), lambda match: self.instead[match[0]], text)

    def start(self, container):
        """Start the command of a container in the environment that the operator gives it."""
        added = {each["name"]: self(each["value"]) for each in container.get("env", ())}
        program, *arguments = map(self, container["args"])
        for name, value in added.items():
            arguments = [argument.replace(f"$({name})", value) for argument in arguments]
        return subprocess.Popen(
            [Path(sys.executable).with_name(program), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=self.folder, env={**os.environ, **added},
        )  # fmt: skip


def assert_answers(url):
    deadline = time.monotonic() + 30
    while True:
        try:
            with urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                return
        except URLError:
            assert time.monotonic() < deadline, f"nothing answers at {url}"
            time.sleep(0.1)


def test_what_the_pods_run_solves(tmp_path):
    """The commands of a `DaskJob`, with one worker, and the probes of its pods."""
    problem = attention("exp+linear")
    np.save(tmp_path / "b.npy", problem.b)
    zarr.save_array(tmp_path / "A.zarr", problem.A)
    here = Here(tmp_path)
    spec = yaml.safe_load(here(MANIFESTS["job", "ConfigMap"]["data"]["cluster.yaml"]))
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(spec | {"wait_for_workers": 1}))
    containers = {
        pod["metadata"]["labels"]["dask.org/component"]: pod["spec"]["containers"][0]
        for pod in templates(JOB)
    }
    with ExitStack() as stack:
        for name in here.dashboards:
            process = stack.enter_context(here.start(containers[name]))
            stack.callback(process.terminate)
        for name, port in here.dashboards.items():
            probe = containers[name]["livenessProbe"]["httpGet"]
            assert_answers(f"http://127.0.0.1:{port}{probe['path']}")
        solve = stack.enter_context(here.start(containers["job-runner"]))
        output, _ = solve.communicate(timeout=60)
    assert solve.returncode == 0, output
    with np.load(tmp_path / "result.npz", allow_pickle=False) as saved:
        x = dresoftmax.solve(problem.A, problem.b).x
        assert np.linalg.norm(saved["x"] - x) <= 1e-4 * np.linalg.norm(x)


# --- what nobody else may do ---------------------------------------------------------


def test_pods_have_no_more_rights_than_they_need(manifest):
    """The profile "restricted" of Kubernetes' standards, and a bit more."""
    for template in templates(manifest):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert all("hostPath" not in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_nothing_is_reached_from_outside(manifest):
    (service,) = (each for each in made_of(manifest) if each["kind"] == "Service")
    assert service["spec"]["type"] == "ClusterIP"
    assert "externalIPs" not in service["spec"]
    policy = MANIFESTS["network", "NetworkPolicy"]["spec"]
    for template in templates(manifest):
        chosen = policy["podSelector"]["matchLabels"].items()
        assert chosen <= template["metadata"]["labels"].items()
    (rule,) = policy["ingress"]
    assert all(set(peer) <= {"podSelector", "namespaceSelector"} for peer in rule["from"])


# --- the image -----------------------------------------------------------------------


def test_the_image_holds_what_the_build_needs():
    lines = (FOLDER / "Containerfile").read_text(encoding="utf-8").splitlines()
    copied = [source for line in lines if line.startswith("COPY") for source in line.split()[1:-1]]
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for needed in ("pyproject.toml", project["readme"], *project["license-files"]):
        assert any((ROOT / needed).is_relative_to(ROOT / source) for source in copied), needed
    (install,) = (line for line in lines if "pip install" in line)
    (extras,) = re.findall(r"\[(.*?)\]", install)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])


def test_the_image_runs_as_the_user_of_the_manifests(manifest):
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\d+)$", text, re.MULTILINE)
    (base,) = re.findall(r"^FROM .*python:(\d+)\.(\d+)-slim$", text, re.MULTILINE)
    assert tuple(map(int, base)) >= (3, 11)
    for template in templates(manifest):
        assert template["spec"]["securityContext"]["runAsUser"] == int(user)
