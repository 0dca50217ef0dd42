#!/usr/bin/env bash
# Runs a sweep in a Slurm job: starts Ray on the job's nodes, runs the sweep, stops Ray.
#
#     sbatch docs/clusters/slurm.sh SPEC RUN_DIR [options of `capsweep run`]
#
# Submit it in the project's root, on a file system that all nodes see, after `make setup`. Before the job's time is up,
# a signal ends the run, which saves everything. The same command resumes the run, and can be queued in advance:
#
#     sbatch --dependency=afterany:JOB docs/clusters/slurm.sh SPEC RUN_DIR
#
# Change these to the names and limits of your site:
#SBATCH --job-name=capsweep
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=08:00:00
#SBATCH --output=%x-%j.log
# To this script alone (B:), two minutes before the end; the probes in flight take seconds to save.
#SBATCH --signal=B:TERM@120

set -euo pipefail

if (($# < 2)); then
    echo "usage: sbatch $0 SPEC RUN_DIR [options of capsweep run]" >&2
    exit 2
fi
spec=$1
run=$2
shift 2

# Where `make setup` put capsweep. If the nodes have no network, also set HF_HUB_OFFLINE=1 here.
export PATH="${CAPSWEEP_BIN:-$SLURM_SUBMIT_DIR/.venv/bin}:$PATH"
# Other users reach these nodes: without a token, any of them could run code as you. The token is in ~/.ray/auth_token,
# and Ray would write it for everybody to read. `capsweep run` refuses one that others may have read, and so does this.
# If the nodes do not share homes, set RAY_AUTH_TOKEN before sbatch, which passes it on.
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
if [[ -z ${RAY_AUTH_TOKEN:-} ]]; then
    python - <<'TOKEN'
import sys
from orchestrator.cluster.private import keep_token_private
from orchestrator.errors import BadInput

try:
    keep_token_private(make=True)
except (BadInput, OSError) as error:
    print(error, file=sys.stderr)
    sys.exit(2)
TOKEN
fi

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
# Slurm runs this script on the first node. The address is the one that Ray would choose. A port and a folder of its own
# keep the job's Ray apart from others on the node.
head_ip=$(python -c 'import ray.util; print(ray.util.get_node_ip_address())')
address=$head_ip:$((20000 + SLURM_JOB_ID % 10000))
scratch=/tmp/ray-$SLURM_JOB_ID # short: the path of a socket may have 107 characters
# Ray opens its own folder to everybody, so that folder lies in one which is shut, on each node. This fails if somebody
# else has made it.
install -d -m 700 "$scratch"
log=$SLURM_SUBMIT_DIR/capsweep-$SLURM_JOB_ID-ray.log

# Ends only what this script started; `ray stop` would end your other Rays as well.
rays=()
stop_rays() {
    kill -TERM "${rays[@]}" 2>/dev/null || true # one of them may have ended by itself
    wait
}
trap stop_rays EXIT
trap 'exit 143' TERM INT

# nproc counts the processors of this job; Ray would count those of the machine. The dashboard listens on the node only:
# ssh -N -L 8265:127.0.0.1:8265 NODE
ray start --head --block --node-ip-address="$head_ip" --port="${address##*:}" --num-cpus="$(nproc)" \
    --dashboard-host=127.0.0.1 --temp-dir="$scratch/ray" >>"$log" 2>&1 &
rays+=($!)
if ((${#nodes[@]} > 1)); then
    others=$((${#nodes[@]} - 1))
    # srun does not inherit --cpus-per-task from sbatch.
    # shellcheck disable=SC2016 # expands on the other node
    srun --nodes="$others" --ntasks="$others" --exclude="${nodes[0]}" --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" \
        bash -c 'install -d -m 700 "$2" && exec ray start --block --address="$1" --num-cpus="$(nproc)"' \
        worker "$address" "$scratch" >>"$log" 2>&1 &
    rays+=($!)
fi

# The number of engines is decided at the start, so wait until all nodes have joined.
python - "$address" "${#nodes[@]}" "${CAPSWEEP_JOIN_SECONDS:-300}" "${rays[@]}" <<'WAIT' &
import os, sys, time, ray

address, wanted, seconds, *pids = sys.argv[1], *map(int, sys.argv[2:])
deadline = time.monotonic() + seconds
joined = 0
while joined < wanted:
    if time.monotonic() > deadline:
        sys.exit(f"{joined} of {wanted} nodes joined within {seconds} s")
    try:
        for pid in pids:
            os.kill(pid, 0)
        if not ray.is_initialized():
            ray.init(address, log_to_driver=False, logging_level="ERROR")
        joined = sum(node["Alive"] for node in ray.nodes())
    except ProcessLookupError:
        sys.exit("Ray ended on a node before all had joined")
    except ConnectionError:
        pass
    time.sleep(1)
WAIT
rays+=($!)
wait $! || { echo "$address: Ray did not come up; $log states why." >&2; exit 1; }
unset 'rays[-1]'
echo "${#nodes[@]} nodes have joined $address"

capsweep run "$spec" --run-dir "$run" --address "$address" "$@" &
driver=$!
# A trap ends `wait`, not the driver: wait again until the driver has saved everything.
trap 'kill -TERM "$driver" 2>/dev/null || true' TERM INT
code=143
while ((code > 128)) && kill -0 "$driver" 2>/dev/null; do
    code=0
    wait "$driver" || code=$?
done

stop_rays
trap - EXIT
# Ray's logs are useful only if something went wrong.
if ((code == 0)); then
    srun --nodes="${#nodes[@]}" --ntasks="${#nodes[@]}" rm -rf "$scratch"
    rm -f "$log"
fi
exit "$code"
