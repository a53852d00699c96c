"""What Kubernetes and the operator of dask-kubernetes say to a manifest, without either.

Definitions are those that their own packages ship: the published schemas of Kubernetes
in kubernetes-validate, and the definitions of the operator's resources, and the code by which it
makes Deployments, Services and Pods of them, in dask-kubernetes.
"""

from __future__ import annotations

import copy
from importlib.resources import files

import jsonschema
import kubernetes_validate
import yaml

OLDEST, *_, NEWEST = sorted(
    set(kubernetes_validate.utils.all_versions()), key=lambda v: int(v.split(".")[1])
)
DEFINITIONS = "operator/deployment/helm/dask-kubernetes-operator/crds"
NAMESPACE = "default"


def validate(manifest):
    """Raise jsonschema.ValidationError where a server would refuse `manifest`."""
    if manifest["apiVersion"].startswith("kubernetes.dask.org/"):
        jsonschema.Draft202012Validator(definition(manifest["kind"])).validate(manifest)
    else:
        for version in (OLDEST, NEWEST):
            kubernetes_validate.validate(manifest, version, strict=True)


def definition(kind):
    """Return the operator's definition of a resource as a schema that is strict."""
    path = files("dask_kubernetes") / DEFINITIONS / f"{kind.lower()}.yaml"
    document = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    (version,) = document["spec"]["versions"]
    schema = _strict(version["schema"]["openAPIV3Schema"])
    names = {"apiVersion": {"const": "kubernetes.dask.org/v1"}, "kind": {"const": kind}}
    schema["properties"] |= names | {"metadata": {"type": "object", "required": ["name"]}}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def _strict(schema):
    """Refuse the fields that a schema does not name, for Kubernetes would drop them."""
    schema = dict(schema)
    if "properties" in schema:
        schema["properties"] = {k: _strict(v) for k, v in schema["properties"].items()}
        schema["additionalProperties"] = False
    if "items" in schema:
        schema["items"] = _strict(schema["items"])
    if schema.get("nullable"):
        schema["type"] = [schema["type"], "null"]
    return schema


def made_of(manifest):
    """Return the objects that the operator makes of a DaskCluster or a DaskJob."""
    from dask_kubernetes.operator.controller import controller

    manifest = copy.deepcopy(manifest)  # what is made of it shares its parts
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    who = {"annotations": {}, "labels": {}}
    if manifest["kind"] == "DaskJob":
        cluster = spec["cluster"]["spec"]
        cluster = controller.build_cluster_spec(
            name, cluster["worker"], cluster["scheduler"], **who
        )
        runner = controller.build_job_pod_spec(name, name, NAMESPACE, spec["job"]["spec"], **who)
        return [cluster, *made_of(cluster), runner]
    worker, scheduler = spec["worker"], spec["scheduler"]
    return [
        controller.build_scheduler_deployment_spec(name, scheduler["spec"], **who),
        controller.build_scheduler_service_spec(name, scheduler["service"], **who),
        controller.build_default_worker_group_spec(name, worker, **who),
        controller.build_worker_deployment_spec(
            f"{name}-default", NAMESPACE, name, "0123456789", worker["spec"], **who
        ),
    ]
