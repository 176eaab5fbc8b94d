#!/bin/sh
# apr-linear beside torch and scikit-learn, in one run: sh bench/linear.sh BUILD. PYTHON=... is one that has them; without it, ours alone.
# A line of a table: what; p50, p95, p99, mean and its 95 % interval, standard deviation, in microseconds; how many a second. Of a peer also
# how many times our p50 its own is, Welch's t and p, Cohen's d, and the 95 % interval of the difference of the means.
set -eu
build=$1
linear=$build/bench/linear tool=$build/apr-linear peers=$(dirname "$0")/linear_peers.py
work=$(mktemp -d)
server=
trap 'rm -rf "$work"; [ -z "$server" ] || kill "$server"' EXIT
trap 'exit 2' HUP INT TERM

found=
for peer in torch sklearn; do
    if [ -n "${PYTHON:-}" ] && "$PYTHON" -c "import $peer" 2>/dev/null; then
        found="$found $peer"
    else
        echo "without $peer: PYTHON=... names a Python that has it"
    fi
done

heading() {
    printf '\n%s, load of the machine %s\n\n' "$1" "$(cut -d' ' -f1 /proc/loadavg)"
}
table() {
    heading "$1"
    echo '| us | p50 | p95 | p99 | mean (95 %) | deviation | a second | times | t, p | d | difference (95 %) |'
    echo '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |'
}
# NAME=COMMAND...: whole processes in turn, ROUNDS of them; what was measured is then asked for by name.
processes() {
    rounds=$1
    shift
    "$build/bench/times" --rounds "$rounds" --seconds 60 --json "$work/times.json" "$@" >/dev/null
}
seconds() { jq -r --arg n "$1" '.runs[$n].seconds[] * 1e9' "$work/times.json" >"$work/$2"; }
peak() { jq -r --arg n "$1" '.runs[$n].peak_bytes / 1048576 * 10 | round / 10' "$work/times.json"; }

for at_once in 1 16; do
    table "One 784 -> 2 prediction in a process, 10,000 of them, $at_once between two looks at the clock"
    "$linear" predict 10000 "$at_once" >"$work/ours"
    for peer in $found; do
        "$PYTHON" "$peers" predict "$peer" 10000 "$at_once" >"$work/$peer"
    done
    "$linear" predict 10000 "$at_once" >"$work/again"
    "$linear" about apr-linear "$work/ours"
    "$linear" about "apr-linear, after the others" "$work/again" "$work/ours"
    for peer in $found; do
        "$linear" about "$peer" "$work/$peer" "$work/ours"
    done
done

"$linear" table 200 5 "$work/small.csv"
"$linear" table 100000 100 "$work/big.csv" "$work/big"
"$linear" table 1 783 "$work/row.csv" # with its class as one more feature
sed -i 1d "$work/row.csv"
"$linear" model "$work/model.safetensors"
processes 50 true=/bin/true \
    "fit=$tool fit $work/small.csv $work/small.apr --force --quiet --optimizer gd --max-iter 100" \
    "predict=$tool predict $work/model.safetensors $work/row.csv"
set --
for peer in $found; do
    set -- "$@" "$peer fit=$PYTHON $peers once $peer fit $work/small.csv 100" \
        "$peer predict=$PYTHON $peers once $peer predict $work/model.safetensors $work/row.csv"
done
[ $# = 0 ] || processes 6 "$@"
seconds true true
whole() {
    table "$2, whole processes, 50 of ours and 6 of each other"
    seconds "$1" ours
    "$linear" about apr-linear "$work/ours"
    "$linear" about /bin/true "$work/true" "$work/ours"
    for peer in $found; do
        seconds "$peer $1" "$peer"
        "$linear" about "$peer" "$work/$peer" "$work/ours"
    done
}
whole predict "One 784 -> 2 prediction, its model and row read from files"
whole fit "A fit of 200 x 5, 100 steps of gradient descent (scikit-learn: at most 100 of lbfgs)"

cpus=$(nproc)
table "A logistic fit of 100,000 x 100 by lbfgs: ours a whole process that reads $(wc -c <"$work/big.csv") bytes of CSV, scikit-learn's of a matrix in memory"
for tol in 1e-4 1e-8; do
    for threads in 1 $([ "$cpus" = 1 ] || echo "$cpus"); do
        what="tolerance $tol, threads $threads"
        processes 7 "$what=$tool fit $work/big.csv $work/big.apr --force --quiet --tol $tol --threads $threads"
        seconds "$what" ours
        "$linear" about "apr-linear, $what" "$work/ours"
        case $found in *sklearn*)
            "$PYTHON" "$peers" fit "$work/big" 100 "$tol" "$threads" 7 >"$work/sklearn"
            "$linear" about "sklearn, $what" "$work/sklearn" "$work/ours" ;;
        esac
    done
done

heading "Reading that CSV into a matrix, one core"
"$linear" read "$work/big.csv" 9 | sort -n | awk -v bytes="$(wc -c <"$work/big.csv")" '
    { t[NR] = $1 } END { printf "%.0f MB/s (%.0f .. %.0f)\n", bytes * 1e3 / t[5], bytes * 1e3 / t[9], bytes * 1e3 / t[1] }'

# NAME MODEL BODY: a server at one connection and at many, on the cores that the load generator has, too
serve() {
    heading "apr-linear serve, $1"
    : >"$work/serve"
    "$tool" serve "$2" --port 0 2>"$work/serve" &
    server=$!
    until grep -q listening "$work/serve"; do
        kill -0 "$server" || exit 2
        sleep 0.05
    done
    port=$(sed -n 's/.*listening.*:\([0-9]*\)$/\1/p' "$work/serve")
    "$build/bench/load" "$port" 1 1000 "$3" >/dev/null
    "$build/bench/load" "$port" 1 20000 "$3"
    printf 'a bare echo, '
    "$build/bench/load" echo 1 20000 "$3"
    "$build/bench/load" "$port" 64 200000 "$3"
    echo "at most $(awk '/VmHWM/ { print $2 / 1024 }' "/proc/$server/status") MiB resident"
    kill "$server"
    wait "$server"
    server=
}
serve "5 features" "$work/small.apr" '{"features":{"x0":0.1,"x1":-0.2,"x2":0.3,"x3":-0.4,"x4":0.5}}'
serve "784 features" "$work/model.safetensors" "{\"features\":[$(cat "$work/row.csv")]}"

heading "Memory, MiB resident at most"
processes 6 "predict=$tool predict $work/big.apr $work/big.csv" "fit=$tool fit $work/big.csv $work/big.apr --force --quiet"
echo "predict of 100,000 x 100: $(peak predict); fit: $(peak fit), of which the matrix $((100000 * 101 * 8 / 1048576))"
