"""Cluster specs: what is refused, what is shown, and what is opened."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest
import yaml
from helpers.commands import assert_refused, assert_solution, assert_solves, run

from dresoftmax.launch import describe, local_spec, open_cluster

RECIPES = Path(__file__).parents[2] / "cluster"
LOCAL = {
    "cluster": "distributed.LocalCluster",
    "arguments": {"n_workers": 1, "threads_per_worker": 1},
}
JOBS = {
    "cluster": "dask_jobqueue.SLURMCluster",
    "arguments": {"cores": 2, "memory": "4GB", "interface": "lo"},
}


# --- what is refused -------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ([], "a mapping is needed"),
        ({}, "none of them; give one of address, cluster, scheduler_file"),
        ({"adress": "tcp://127.0.0.1:9"}, "has adress; there is address"),
        ({**LOCAL, "address": "tcp://127.0.0.1:9"}, "cluster and address; give one"),
        ({"address": "tcp://127.0.0.1:9", "scale": 2}, "scale is for a cluster that is started"),
        ({"address": 8786}, "address is 8786; the address of a scheduler is needed"),
        ({**LOCAL, "arguments": [1]}, r"arguments is \[1\]; a mapping"),
        ({**LOCAL, "scale": True}, "scale is True; a number of workers"),
        ({**LOCAL, "scale": 2, "adapt": {"maximum": 3}}, "scale and adapt exclude each other"),
        ({**LOCAL, "scale": {"job": 2}}, "takes no job; there is"),
        ({**LOCAL, "timeout": "soon"}, "timeout is 'soon'; a time is needed"),
        ({**LOCAL, "wait_for_workers": -1}, "wait_for_workers is -1"),
        ({**LOCAL, "arguments": {"n_worker": 1}}, "no argument n_worker; there is n_workers"),
        ({**LOCAL, "arguments": {"asynchronous": True}}, "arguments has asynchronous"),
        ({**LOCAL, "arguments": {"security": {}}}, "write it beside arguments"),
        ({**LOCAL, "security": {"tls_ca": "x"}}, "tls_ca"),
        ({**LOCAL, "security": {"tls_ca_file": "none.pem"}}, "none.pem, but there is no such file"),
        ({**JOBS, "arguments": {"core": 2}}, "no argument core; there is cores"),
        ({"cluster": "LocalCluster"}, "give the module too"),
        ({"cluster": "distributed.Client"}, "not a subclass of distributed.deploy.Cluster"),
        ({"cluster": "absent_package.Cluster"}, "No module named 'absent_package'"),
        (
            {"cluster": "distributed.SSHCluster", "arguments": {"hosts": ["a"]}, "scale": 2},
            "its hosts say how many workers",
        ),
        (
            {"cluster": "dask_kubernetes.operator.KubeCluster", "security": {"tls_ciphers": "x"}},
            "takes no argument security",
        ),
    ],
)
def test_a_wrong_spec_is_refused_before_anything_starts(spec, words, tmp_path):
    for function in (describe, lambda spec: open_cluster(spec).__enter__()):
        with pytest.raises((ValueError, TypeError, FileNotFoundError), match=words):
            function(spec)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    result = run("solve", "--cluster", tmp_path / "spec.yaml", "--dry-run")
    assert_refused(result)


@pytest.mark.parametrize(
    ("cluster", "package", "extra"),
    [
        ("dask_jobqueue.SLURMCluster", "dask_jobqueue", "jobqueue"),
        ("dask_kubernetes.operator.KubeCluster", "dask_kubernetes", "kubernetes"),
        ("distributed.SSHCluster", "asyncssh", "ssh"),
    ],
)
def test_the_extra_is_named_where_a_package_is_missing(cluster, package, extra, monkeypatch):
    for module in [name for name in sys.modules if name.split(".")[0] == package] or [package]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"pip install 'dresoftmax\[{extra}\]'"):
        describe({"cluster": cluster})


@pytest.mark.parametrize("text", ["cluster: [", "cluster: !!python/object/apply:os.getcwd []"])
def test_a_file_that_is_no_plain_yaml_is_named(text, tmp_path):
    (tmp_path / "spec.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"spec\.yaml is not valid YAML"):
        describe(tmp_path / "spec.yaml")
    with pytest.raises(FileNotFoundError, match=r"none\.yaml does not exist"):
        describe(tmp_path / "none.yaml")


def test_jobs_are_launched_only_where_they_can_be_submitted(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError, match="sbatch is not on the path"), open_cluster(JOBS):
        pass


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", 1, "--cluster", "x.yaml"], "--cluster and --workers exclude each other"),
        (["--scheduler", "a", "--scheduler-file", "b"], "exclude each other"),
        (["--tls-cert", "x.pem"], "--tls-cert is for --scheduler or --scheduler-file"),
        (["--cluster", "x.yaml", "--tls-key", "x"], "has certificates as security"),
        (["--dry-run"], "--dry-run shows a cluster"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(arguments, words):
    result = run("solve", "A.npy", "b.npy", *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_data_may_be_missing_for_a_dry_run_alone():
    result = run("solve", "--workers", 2)
    assert result.exit_code == 2
    assert "Missing argument 'A'" in result.stderr
    assert run("solve", "--workers", 2, "--dry-run").exit_code == 0


# --- what is shown ---------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Return a function from a name to the path of a recipe, in a folder for what it makes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluster").symlink_to(RECIPES)
    return lambda name: Path("cluster") / f"{name}.yaml"


SHOWN = {
    "local": ["start distributed.LocalCluster", "n_workers: 2", "wait for 1 worker, 60 s at most"],
    "ssh": ["start distributed.SSHCluster", "- node2", "host: 10.0.0.1", "wait for 2 workers"],
    "slurm": ["#SBATCH -p compute", "#SBATCH -t 01:00:00", "#SBATCH -o logs/dask-worker-%J.out"],
    "pbs": ["#PBS -q workq", "#PBS -l select=1:ncpus=8:mem=32gb", "#PBS -l walltime=01:00:00"],
    "lsf": ["#BSUB -q normal", '#BSUB -P "my-project"', "#BSUB -W 01:00"],
    "sge": ["#$ -q all.q", "#$ -pe smp 8", "#$ -l h_vmem=4G"],
    "scheduler": ["connect to tcp://node1:8786 within 30 s"],
    "scheduler-file": ["connect to the scheduler in scheduler.json", "wait for 4 workers"],
    "kubernetes": ["kind: DaskCluster", "replicas: 4"],
}


def test_every_recipe_is_shown():
    assert set(SHOWN) == {path.stem for path in RECIPES.glob("*.yaml")}


@pytest.mark.parametrize("name", SHOWN)
def test_a_dry_run_shows_the_recipe(name, recipe):
    result = run("solve", "--cluster", recipe(name), "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == describe(recipe(name)).strip()
    for line in SHOWN[name]:
        assert line in result.stdout


@pytest.mark.parametrize("name", ["slurm", "pbs", "lsf", "sge"])
def test_a_job_script_has_one_worker_and_what_the_recipe_says(name, recipe):
    script = describe(recipe(name))
    assert script.startswith("#!/usr/bin/env bash\n")
    assert "\nsource /home/me/dresoftmax/bin/activate\n" in script
    command = script.strip().splitlines()[-1]
    assert command.startswith("python -m distributed.cli.dask_worker tcp://<insert")
    assert "--nthreads 8 --memory-limit 29.80GiB --nanny" in command
    assert command.endswith("--local-directory /tmp --interface ib0")


def test_a_manifest_is_made_of_arguments():
    spec = {
        "cluster": "dask_kubernetes.operator.KubeCluster",
        "arguments": {"name": "fit", "image": "dresoftmax:1"},
        "scale": 3,
    }
    manifest = yaml.safe_load(describe(spec))
    assert manifest["kind"] == "DaskCluster"
    assert manifest["metadata"] == {"name": "fit"}
    assert manifest["spec"]["worker"]["replicas"] == 3
    (container,) = manifest["spec"]["worker"]["spec"]["containers"]
    assert container["image"] == "dresoftmax:1"


def test_a_password_is_not_shown():
    spec = {
        "cluster": "distributed.SSHCluster",
        "arguments": {
            "hosts": ["node1", "node2"],
            "connect_options": {"password": "secret"},
            "scheduler_options": {"host": "10.0.0.1"},
        },
    }
    assert "password: '***'" in describe(spec)
    assert "secret" not in describe(spec)


def test_a_job_script_is_shown_within_a_running_loop_too():
    async def within():
        return describe(JOBS)

    assert asyncio.run(within()) == describe(JOBS)


# --- what is opened --------------------------------------------------------------


def test_a_local_cluster_opens_grows_solves_and_is_gone(problem):
    with open_cluster({**LOCAL, "scale": 2, "wait_for_workers": 2}) as client:
        assert len(client.scheduler_info()["workers"]) == 2
        assert_solves(client, problem)
    assert client.status == "closed"
    assert client.cluster.status.name == "closed"


def test_an_adaptive_cluster_starts_workers_when_there_is_work(problem):
    spec = {**LOCAL, "arguments": {"n_workers": 0, "threads_per_worker": 1}}
    with open_cluster({**spec, "adapt": {"minimum": 0, "maximum": 1}}) as client:
        assert client.submit(abs, -1).result(timeout=30) == 1
    with open_cluster({**spec, "adapt": {"minimum": 1}, "wait_for_workers": 1}) as client:
        assert_solves(client, problem)


def test_the_workers_of_the_command_are_quiet_and_show_no_dashboard():
    shown = describe(local_spec(3))
    assert "n_workers: 3" in shown
    assert "dashboard_address: null" in shown


def test_a_running_scheduler_is_reached_and_left_running(client, problem, files):
    address = client.scheduler.address
    (files / "scheduler.json").write_text(json.dumps({"address": address}), encoding="utf-8")
    for spec in ({"address": address}, {"scheduler_file": files / "scheduler.json"}):
        with open_cluster({**spec, "wait_for_workers": 2}) as other:
            assert other is not client
            assert_solves(other, problem)
        assert client.submit(abs, -1).result() == 1
    (files / "spec.yaml").write_text(f"address: {address}\n", encoding="utf-8")
    inputs, out = (files / "A.npy", files / "b.npy"), files / "out.npz"
    for target in (
        ["--cluster", files / "spec.yaml"],
        ["--scheduler-file", files / "scheduler.json"],
    ):
        result = run("solve", *inputs, *target, "-o", out)
        assert result.exit_code == 0, result.output
        assert_solution(out, problem)
        out.unlink()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "there is no scheduler file"), ("{", "not a scheduler file"), ("[]", "has no address")],
)
def test_a_scheduler_file_that_does_not_come_is_named(content, words, tmp_path):
    file = tmp_path / "scheduler.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    spec = {"scheduler_file": str(file), "timeout": "100ms"}
    with pytest.raises((OSError, ValueError), match=words), open_cluster(spec):
        pass


def test_what_does_not_answer_is_one_plain_line(files, client):
    inputs = files / "A.npy", files / "b.npy"
    absent = "address: tcp://127.0.0.1:9\ntimeout: 200ms\n"
    missing = f"address: {client.scheduler.address}\nwait_for_workers: 9\ntimeout: 200ms\n"
    for text in (absent, missing):
        (files / "spec.yaml").write_text(text, encoding="utf-8")
        result = run("solve", *inputs, "--cluster", files / "spec.yaml")
        assert_refused(result)
        assert result.stderr.startswith("Error: no cluster from tcp://127.0.0.1:")
