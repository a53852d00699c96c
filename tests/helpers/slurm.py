"""A Slurm of one node on this machine, for as long as a ``with`` block lasts.

Its daemons munged, slurmctld and slurmd are the real ones, from the packages of the
system.  They run in the foreground as children of the tests; key, configuration,
sockets, spool and logs lie in one directory.  They talk over loopback, and accept
nothing that is not signed with the key.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, contextmanager, suppress

import psutil
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "squeue", "sinfo")
PATIENCE = 60.0  # seconds until a daemon or a job has to have done what it is waited for

# Two processors and 3 GB, of which jobs take shares, whatever the machine has.  What belongs
# to a job is found by descent: control groups would be those of the whole machine.
CONFIGURATION = """\
ClusterName=throwaway
SlurmctldHost={host}(127.0.0.1)
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=3000
PartitionName=all Nodes={host} Default=YES MaxTime=10:00

SlurmUser=root
SlurmctldPort={ctld}
SlurmdPort={slurmd}
{binding}
AuthInfo=socket={root}/munge.socket

StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
MailProg=/bin/true

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
KillWait=2
"""
ON_LOOPBACK = "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"


@contextmanager
def slurm(root):
    """Start a Slurm in the directory `root`; within, SLURM_CONF names it to all commands.

    Skips where its programs are missing, or may not start jobs.
    """
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("PATH", os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"]))
        absent = [program for program in PROGRAMS if shutil.which(program) is None]
        if absent:
            pytest.skip(f"Slurm is not installed: no {', '.join(absent)}")
        if os.geteuid() != 0:
            pytest.skip("slurmd starts jobs only where it runs as root")
        patch.setenv("SLURM_CONF", str(_configure(root)))

        stack.callback(_end_what_is_left, root)
        munged = _daemon(
            root, "munged", "--foreground", "--force", f"--socket={root}/munge.socket",
            *(f"--{kind}-file={root}/munge.{kind}" for kind in ("key", "log", "pid", "seed")),
        )  # fmt: skip
        with munged:
            wait_for((root / "munge.socket").exists, root)
            with _daemon(root, "slurmctld", "-D"), _daemon(root, "slurmd", "-D"):
                wait_for(_is_up, root)
                yield
                ask("scancel", "--user=root", "--full")
                wait_for(lambda: not jobs(), root)


def ask(*command, cwd=None):
    """Return what a command of Slurm answers, without the end of its line."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE, check=True, cwd=cwd
    )
    return done.stdout.strip()


def jobs():
    """Return the state of each job that has not ended, by its number."""
    return dict(line.split() for line in ask("squeue", "-h", "-o", "%i %T").splitlines())


def wait_for(condition, root):
    """Wait until `condition()` holds, or fail with what the daemons of `root` have said."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text() for path in sorted(root.glob("*.out")))
            pytest.fail(f"Slurm did not come to it in {PATIENCE:g} s:\n{logs}")
        time.sleep(0.05)


def processes(root):
    """Return the processes of all jobs of the Slurm in `root`."""
    mine = {"SLURM_CONF": f"{root}/slurm.conf"}.items()
    tasks = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            environment = process.environ()
            if mine <= environment.items() and "SLURM_JOB_ID" in environment:
                tasks.append(process)
    # What holds a task writes its title over its own environment.
    parents = {task.parent() for task in tasks} - {None}
    return tasks + [parent for parent in parents if parent.name() == "slurmstepd"]


def free_ports(count):
    """Return so many ports of this machine that nobody listens at."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _configure(root):
    """Write the key and the configuration, and return the path of that."""
    for folder in ("state", "spool"):
        (root / folder).mkdir()
    key = root / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    ctld, slurmd = free_ports(2)
    path = root / "slurm.conf"
    path.write_text(
        CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            # They can bind to the address of their own name alone, or to all.
            binding=ON_LOOPBACK if _name_is_loopback() else "",
            root=root,
            ctld=ctld,
            slurmd=slurmd,
        )
    )
    return path


def _name_is_loopback():
    try:
        return socket.gethostbyname(socket.gethostname()) == "127.0.0.1"
    except OSError:
        return False


def _is_up():
    with suppress(subprocess.CalledProcessError):  # while nobody listens
        return ask("sinfo", "--noheader", "--format=%t") == "idle"
    return False


@contextmanager
def _daemon(root, name, *arguments):
    with (root / f"{name}.out").open("w") as output:
        process = subprocess.Popen(
            [name, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=root
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_what_is_left(root):
    left = processes(root)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, PATIENCE)
