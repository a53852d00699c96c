#!/usr/bin/env bash
# Solve inside one batch job of Slurm, where the login node must not run anything:
#
#     sbatch cluster/slurm-job.sh A.zarr b.npy -o result.npz
#
# Scheduler, workers and solver live as long as the job.  All that follows the name of this
# script is given to `dresoftmax solve`, and its exit status is that of the job.  The numbers
# below are defaults: `sbatch --ntasks=16 cluster/slurm-job.sh ...` takes 16 workers.
#
# `dresoftmax` and `dask` have to be on the path where sbatch is called, which Slurm carries
# over, and the directory there has to be one that all nodes share.  Where nodes have several
# networks, `DRESOFTMAX_INTERFACE=ib0 sbatch ...` chooses.  All messages are encrypted with a
# key that is made for this job, and nobody can connect without it.

# One worker for each task, with a thread for each of its CPUs.
#SBATCH --ntasks=4
#SBATCH --cpus-per-task=8
#SBATCH --mem-per-cpu=4G
#SBATCH --time=01:00:00
#SBATCH --job-name=dresoftmax
#SBATCH --output=%x-%j.log
# A node that fails takes its workers with it, and the others go on.
#SBATCH --no-kill

set -euo pipefail

# Its name needs no quotes, neither here nor in YAML, wherever the job was submitted.
folder=.dresoftmax-$SLURM_JOB_ID
log=$SLURM_JOB_NAME-$SLURM_JOB_ID-cluster.log
mkdir --mode 700 "$folder"
trap 'rm -r "$folder"' EXIT

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=dresoftmax \
    -keyout "$folder/key.pem" -out "$folder/certificate.pem" 2>>"$log"
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=$folder/certificate.pem
for role in SCHEDULER WORKER CLIENT; do
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__CERT=$folder/certificate.pem"
    export "DASK_DISTRIBUTED__COMM__TLS__${role}__KEY=$folder/key.pem"
done
where=(--scheduler-file "$folder/scheduler.json" --protocol tls --dashboard-address 127.0.0.1:0)
if [[ -n ${DRESOFTMAX_INTERFACE:-} ]]; then
    where+=(--interface "$DRESOFTMAX_INTERFACE")
fi

dask scheduler --port 0 "${where[@]}" &>>"$log" &
scheduler=$!
until [[ -s $folder/scheduler.json ]]; do
    kill -0 $scheduler || { cat "$log"; exit 1; }
    sleep 0.2
done

# The scheduler and the solver have a tenth of the memory: they share the first node.
memory=$((${SLURM_MEM_PER_CPU:?ask for memory with --mem-per-cpu} * SLURM_CPUS_PER_TASK * 9 / 10))
srun --no-kill --kill-on-bad-exit=0 --label --cpus-per-task="$SLURM_CPUS_PER_TASK" \
    dask worker --nthreads "$SLURM_CPUS_PER_TASK" --memory-limit "${memory}MiB" \
    --local-directory "${TMPDIR:-/tmp}" "${where[@]}" &>>"$log" &
workers=$!

# Workers end with their scheduler, and clear away what they have spilled.
finish() {
    kill $scheduler || true
    timeout 30 tail --pid=$workers --follow /dev/null || kill $workers || true
    rm -r "$folder"
}
trap finish EXIT

cat >"$folder/cluster.yaml" <<END
scheduler_file: $folder/scheduler.json
wait_for_workers: $SLURM_NTASKS
timeout: 5 minutes
END
dresoftmax solve --cluster "$folder/cluster.yaml" "$@"
