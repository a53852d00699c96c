"""TLS from end to end, what listens where, and specs that a shell never sees."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys

import psutil
import pytest
from helpers.certificates import make_certificates
from helpers.commands import assert_refused, assert_solution, assert_solves, run

from dresoftmax.launch import describe, open_cluster
from dresoftmax.launch.security import secure_arguments
from dresoftmax.launch.spec import read_spec

SLURM = {"cores": 2, "memory": "4GB", "interface": "lo"}
SSH = {"hosts": ["node1", "node2"], "scheduler_options": {"host": "10.0.0.1"}}


@pytest.fixture(scope="module")
def security(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """Certificates of another authority."""
    return make_certificates(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(scope="module")
def scheduler(security, tmp_path_factory):
    """Start a scheduler and a worker with Dask's own commands, and return the address."""
    file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"

    def command(role, *arguments):
        names = {"ca-file": "tls_ca_file", "cert": f"tls_{role}_cert", "key": f"tls_{role}_key"}
        flags = [f"--tls-{flag}={security[name]}" for flag, name in names.items()]
        common = ["--host", "tls://127.0.0.1", "--no-dashboard", *flags]
        return subprocess.Popen(
            [sys.executable, "-m", "dask", role, f"--scheduler-file={file}", *common, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    with command("scheduler", "--port=0") as server:
        try:
            with command("worker", "--nthreads=1", "--no-nanny") as worker:
                try:
                    yield file
                finally:
                    worker.terminate()
        finally:
            server.terminate()


def client_of(security):
    return {name: file for name, file in security.items() if "_client_" in name or "_ca_" in name}


def flags_of(security):
    names = {"ca-file": "tls_ca_file", "cert": "tls_client_cert", "key": "tls_client_key"}
    return [word for flag, name in names.items() for word in (f"--tls-{flag}", security[name])]


# --- TLS -------------------------------------------------------------------------


def test_a_cluster_of_a_spec_speaks_tls(security, problem):
    spec = {
        "cluster": "distributed.LocalCluster",
        "arguments": {"n_workers": 1, "threads_per_worker": 1},
        "security": security,
    }
    with open_cluster(spec) as client:
        info = client.scheduler_info()
        addresses = [info["address"], *info["workers"]]
        assert len(addresses) == 2
        assert all(address.startswith("tls://127.0.0.1:") for address in addresses)
        assert_solves(client, problem)


def test_a_scheduler_with_tls_is_reached_by_spec(scheduler, security, problem):
    spec = {"scheduler_file": str(scheduler), "security": client_of(security)}
    with open_cluster({**spec, "wait_for_workers": 1}) as client:
        address = client.scheduler.address
        assert address.startswith("tls://")
        assert_solves(client, problem)
    bare = {"address": address.removeprefix("tls://"), "security": client_of(security)}
    with open_cluster(bare) as client:
        assert client.scheduler.address == address


def test_a_scheduler_with_tls_is_reached_by_flags(scheduler, security, files, problem):
    inputs, out = (files / "A.npy", files / "b.npy"), files / "out.npz"
    result = run("solve", *inputs, "--scheduler-file", scheduler, *flags_of(security), "-o", out)
    assert result.exit_code == 0, result.output
    assert_solution(out, problem)


def test_without_its_certificates_nobody_gets_in(scheduler, security, strangers, files):
    inputs = files / "A.npy", files / "b.npy"
    with open_cluster({"scheduler_file": scheduler, "security": client_of(security)}) as client:
        address = client.scheduler.address
    refusals = {
        "--tls-ca-file": run("solve", *inputs, "--scheduler", address),
        "no cluster": run("solve", *inputs, "--scheduler", address, *flags_of(strangers)),
    }
    for words, result in refusals.items():
        assert_refused(result, words)


def test_a_scheduler_without_encryption_is_refused_by_who_has_certificates(client, security):
    spec = {"address": client.scheduler.address, "security": client_of(security)}
    with pytest.raises(ValueError, match=r"without encryption.*write tls://"), open_cluster(spec):
        pass


# --- what listens where ----------------------------------------------------------


def listening(pid):
    """Return the addresses and ports that a process listens on."""
    connections = psutil.Process(pid).net_connections("tcp")
    return {tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN}


def test_a_started_cluster_listens_on_this_machine_alone():
    before = listening(os.getpid())
    spec = {"cluster": "distributed.LocalCluster", "arguments": {"n_workers": 1}}
    with open_cluster(spec) as client:
        (worker,) = client.run(os.getpid).values()
        of_scheduler, of_worker = listening(os.getpid()) - before, listening(worker)
        assert client.dashboard_link.startswith("http://127.0.0.1:")
    assert worker != os.getpid()
    for found in (of_scheduler, of_worker):
        assert found
        assert all(ipaddress.ip_address(ip).is_loopback for ip, _ in found)


@pytest.mark.parametrize(
    ("cluster", "arguments"),
    [
        ("distributed.LocalCluster", {"host": "0.0.0.0"}),
        ("distributed.LocalCluster", {"host": "tcp://[::]:8786"}),
        ("distributed.LocalCluster", {"scheduler_kwargs": {"host": ""}}),
        ("distributed.SSHCluster", {"hosts": ["node1", "node2"]}),
        ("distributed.SSHCluster", {**SSH, "scheduler_options": {"host": "0.0.0.0:8786"}}),
        ("dask_jobqueue.SLURMCluster", {"cores": 2, "memory": "4GB"}),
        ("dask_jobqueue.PBSCluster", {**SLURM, "scheduler_options": {"host": "0.0.0.0"}}),
    ],
)
def test_a_scheduler_open_to_everyone_needs_tls(cluster, arguments, security):
    spec = {"cluster": cluster, "arguments": arguments}
    with pytest.raises(ValueError, match=r"anyone who reaches it could run code; write .*host"):
        secure_arguments(read_spec(spec))
    assert secure_arguments(read_spec({**spec, "security": security}))


def test_a_dashboard_is_where_the_spec_says(security):
    for cluster, arguments in (
        ("distributed.SSHCluster", SSH),
        ("dask_jobqueue.SGECluster", SLURM),
    ):
        options = dict(arguments.get("scheduler_options", {}))
        spec = {"cluster": cluster, "arguments": {**arguments, "scheduler_options": options}}
        hardened = secure_arguments(read_spec(spec))
        assert hardened["scheduler_options"]["dashboard_address"] == "127.0.0.1:0"
        options["dashboard_address"] = ":8787"
        assert secure_arguments(read_spec(spec))["scheduler_options"] == options


# --- specs and shells ------------------------------------------------------------

INJECTIONS = [
    "; touch x",
    "$(touch x)",
    "`touch x`",
    "a && touch x",
    "a|touch x",
    "a\ntouch x",
    "$X",
]


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize(
    "name",
    ["python", "log_directory", "local_directory", "shared_temp_directory", "worker_extra_args",
     "worker_command", "interface", "death_timeout", "name", "job_name"],
)  # fmt: skip
def test_no_file_name_reaches_the_shell_of_a_job(name, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    value = [text] if name == "worker_extra_args" else text
    spec = {"cluster": "dask_jobqueue.SLURMCluster", "arguments": {**SLURM, name: value}}
    with pytest.raises(ValueError, match=f"{name} is .* would reach a shell"):
        describe(spec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["queue", "account", "walltime", "job_extra_directives", "shebang"]
)
def test_directives_stay_comments_of_the_script(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = {**SLURM, "shebang": "#!/bin/sh", "python": "/bin/true"}
    for text in ("a\ntouch x", "#!/bin/sh\ntouch x", *["touch x"] * (name == "shebang")):
        value = [text] if name == "job_extra_directives" else text
        spec = {"cluster": "dask_jobqueue.SLURMCluster", "arguments": {**arguments, name: value}}
        with pytest.raises(ValueError, match=f"{name} is .* would reach a shell"):
            describe(spec)
    if name != "shebang":
        value = ["$(touch x)"] if name == "job_extra_directives" else "$(touch x)"
        arguments[name] = value
        spec = {"cluster": "dask_jobqueue.SLURMCluster", "arguments": arguments}
        script = describe(spec).replace("<insert-scheduler-address-here>", "host")
        subprocess.run(["sh", "-c", script], check=True, timeout=20)
    assert not list(tmp_path.iterdir())


def test_the_prologue_is_meant_for_the_shell():
    lines = ["module load python", "export X=$(hostname)"]
    spec = {
        "cluster": "dask_jobqueue.SLURMCluster",
        "arguments": {**SLURM, "job_script_prologue": lines},
    }
    assert "\n".join(lines) in describe(spec)


@pytest.mark.parametrize(
    "arguments",
    [
        {"remote_python": "python; touch x"},
        {"remote_python": ["python", "$(touch x)"]},
        {"worker_class": "distributed.Nanny' ; touch x; '"},
        {"worker_options": {"local_directory": "a'; touch x; '"}},
        {"worker_options": {"'; touch x; '": 1}},
        {"scheduler_options": {"host": "10.0.0.1", "preload": ["a'$(touch x)'"]}},
    ],
)
def test_nothing_leaves_its_quotes_in_the_commands_of_ssh(arguments):
    spec = {"cluster": "distributed.SSHCluster", "arguments": {**SSH, **arguments}}
    with pytest.raises(ValueError, match="would reach a shell"):
        describe(spec)


def test_certificates_of_jobs_are_words_and_complete(security, tmp_path):
    spec = {"cluster": "dask_jobqueue.SLURMCluster", "arguments": SLURM}
    script = describe({**spec, "security": security})
    assert f"--tls-key {security['tls_worker_key']}" in script
    with pytest.raises(ValueError, match="tls_worker_cert, tls_worker_key"):
        describe({**spec, "security": client_of(security)})
    with pytest.raises(ValueError, match="would reach a shell"):
        describe({**spec, "security": make_certificates(tmp_path / "$(touch x)")})


@pytest.mark.parametrize("option", ["--cluster", "--scheduler-file", "--tls-ca-file"])
@pytest.mark.parametrize("text", [text for text in INJECTIONS if "\n" not in text])
def test_no_option_reaches_a_shell(option, text, files, monkeypatch):
    monkeypatch.chdir(files)
    monkeypatch.setattr("dresoftmax.cli.options.CONNECT_TIMEOUT", "10ms")
    address = ["--scheduler", "127.0.0.1:9"] if option == "--tls-ca-file" else []
    result = run("solve", "A.npy", "b.npy", *address, option, text)
    assert result.exit_code == 2
    assert text in result.stderr
    assert sorted(path.name for path in files.iterdir()) == ["A.npy", "b.npy"]
