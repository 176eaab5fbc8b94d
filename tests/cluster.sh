#!/bin/bash
# The commands of docs/cluster.md as they stand there, by GNU parallel and by a Slurm of one node that this script starts (munged, slurmctld,
# slurmd) and ends. A job is killed in the middle of each; what comes out is held against a single run.
#   tests/cluster.sh [BIN]     BIN: where the programs are; default build/release
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
bin=$(cd "${1:-$top/build/release}" && pwd)
for program in parallel munged slurmctld slurmd sbatch scontrol squeue; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || { echo "cluster.sh needs: apt-get install parallel munge slurmctld slurmd slurm-client" >&2; exit 2; }
done

work=$(mktemp -d)
export PATH=$work/bin:$PATH:/usr/sbin HOME=$work/home SLURM_CONF=$work/slurm/slurm.conf
end() {
    for daemon in slurmd slurmctld munged; do
        if [ -s "$work/slurm/$daemon.pid" ]; then
            pid=$(cat "$work/slurm/$daemon.pid")
            kill "$pid" 2>/dev/null || continue
            for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        fi
    done
    rm -rf "$work"
}
trap end EXIT
fail() { echo "cluster.sh: $*" >&2; exit 1; }

# ---- the programs, of which one is killed ----------------------------------------------------------------------------------

# Each run is written down. The first that does share $KILL is killed in the middle: a program that answers on standard output behind its
# first half, apr-convert wherever it is.
mkdir -p "$work/bin" "$work/home/.parallel" "$work/run"
touch "$work/home/.parallel/will-cite"
for tool in apr-diff apr-inspect apr-convert; do
    cat >"$work/bin/$tool" <<END
#!/bin/bash
echo "$tool \$*" >>"$work/log"
[ -n "\${PAUSE:-}" ] && sleep "\$PAUSE"
case "$tool \$*" in
apr-convert*" \${KILL:-none}"*)
    if mkdir "$work/killed" 2>/dev/null; then "$bin/$tool" "\$@" & kill -9 \$!; kill -9 \$\$; fi ;;
*" \${KILL:-none}"*)
    if mkdir "$work/killed" 2>/dev/null; then "$bin/$tool" "\$@" | head -c 1000; kill -9 \$\$; fi ;;
esac
exec "$bin/$tool" "\$@"
END
done
# What stands for a host: the command runs here, with the SHELL that sshd sets.
cat >"$work/bin/ssh" <<'END'
#!/bin/bash
while [ "${1#-}" != "$1" ]; do shift; done
echo "ssh $1" >>"${0%/bin/ssh}/log"
shift
[ "$1" = -- ] && shift
SHELL=/bin/bash exec bash -c "$*"
END
chmod +x "$work"/bin/*

# ---- what a single run says ------------------------------------------------------------------------------------------------

cd "$work/run"
ln -s "$top/fixtures/qwen2" model
ln -s "$top/fixtures/qwen2-q4_0.gguf" model.gguf
mkdir "$work/want" "$work/want/shards"
"$bin/apr-diff" --json model model.gguf >"$work/want/diff.json" && fail "the models should differ: an honest no must be among the answers"
"$bin/apr-inspect" --json --stats --hash --check model.gguf >"$work/want/inspect.json"
"$bin/apr-convert" --quiet model "$work/want/shards/m.gguf" --shards 4

# ---- the commands of the page ----------------------------------------------------------------------------------------------

# Block number $1 of those in ```sh.
block() { awk -v wanted="$1" '/^```sh$/ { n++; inside = n == wanted; next } /^```/ { inside = 0 } inside' "$top/docs/cluster.md"; }

begin() { # the share whose first job is killed
    rm -rf "$work/killed" "$work/log" shards ./*.log ./*.json
    export KILL=$1
}

compare() { # what; files
    [ -d "$work/killed" ] || fail "$1: no job was killed"
    for file in "${@:2}"; do
        diff -r "$work/want/$file" "$file" >/dev/null || fail "$1: $file is not what a single run gives"
    done
    echo "$1: $(grep -c -e --partition "$work/log") jobs, one of them killed; ${*:2} as a single run gives it"
}

run_block() { # number; exit 1 is an answer
    local code=0
    block "$1" >"$work/block"
    bash "$work/block" || code=$?
    [ $code -le 1 ] || fail "block $1 ended with $code"
}

by_parallel() { # number, share to kill, what it gives
    begin "$2"
    run_block "$1"
    compare "parallel, block $1" "$3"
    [ "$(awk 'NR > 1 { print $1 }' ./*.log | sort -u | wc -l)" = "${2#*/}" ] || fail "block $1: --joblog has not all ${2#*/} jobs"
}
by_parallel 1 3/8 diff.json
by_parallel 2 3/8 inspect.json
by_parallel 3 2/4 shards

# The host goes down after some jobs; then the same line with --resume.
begin none
block 1 >"$work/block"
PAUSE=0.4 setsid bash "$work/block" &
sleep 1.5
kill -9 -- -$!
{ wait $!; } 2>/dev/null || true
done_before=$(($(wc -l <diff.log) - 1))
[ "$done_before" -ge 1 ] && [ "$done_before" -lt 8 ] || fail "the host went down after $done_before jobs, not in between"
: >"$work/log"
mkdir "$work/killed"
run_block 4
compare "parallel --resume, block 4" diff.json
[ "$(grep -c -e --partition "$work/log")" = $((8 - done_before)) ] || fail "--resume ran what had ended: $done_before before, $(grep -c -e --partition "$work/log") after"

by_parallel 5 3/8 diff.json
grep -q "ssh node1" "$work/log" && grep -q "ssh node2" "$work/log" || fail "block 5: jobs did not go to both hosts"

# ---- Slurm -----------------------------------------------------------------------------------------------------------------

slurm=$work/slurm
mkdir -m 755 "$slurm" "$slurm/state" "$slurm/spool"
chmod 755 "$work"
(umask 077 && head -c 1024 /dev/urandom >"$slurm/munge.key")
host=$(hostname -s)
free_ports() { perl -MIO::Socket::INET -e 'my @s = map { IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") } 1, 2; print join(" ", map { $_->sockport } @s), "\n"'; }
read -r ctld_port d_port < <(free_ports)
cat >"$SLURM_CONF" <<END
ClusterName=tested
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$ctld_port
SlurmdPort=$d_port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$slurm/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.pid
SlurmctldLogFile=$slurm/slurmctld.log
SlurmdLogFile=$slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MailProg=/bin/true
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
munged --force --key-file="$slurm/munge.key" --socket="$slurm/munge.socket" --pid-file="$slurm/munged.pid" --log-file="$slurm/munged.log" \
    --seed-file="$slurm/munge.seed" 2>"$slurm/munged.err" || { cat "$slurm/munged.err" >&2; fail "munged does not start"; }
slurmctld -f "$SLURM_CONF"
slurmd -f "$SLURM_CONF"
for _ in $(seq 100); do
    [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break
    sleep 0.2
done
[ "$(sinfo -h -o %T)" = idle ] || { tail -n 20 "$slurm/slurmctld.log" "$slurm/slurmd.log" >&2; fail "the node does not come up"; }

by_slurm() { # number, share to kill, what it gives
    begin "$2"
    rm -f slurm-*.out
    block "$1" >"$work/block"
    bash "$work/block" >/dev/null || fail "block $1 ended with $?"
    for _ in $(seq 900); do
        [ -z "$(squeue -h)" ] && break
        sleep 0.2
    done
    [ -z "$(squeue -h)" ] || { squeue >&2; cat slurm-*.out >&2; fail "block $1: jobs that do not end"; }
    compare "Slurm, block $1" "$3"
}
by_slurm 6 3/8 diff.json
by_slurm 7 3/8 inspect.json
by_slurm 8 2/4 shards
echo "the commands of docs/cluster.md give what a single run gives"
