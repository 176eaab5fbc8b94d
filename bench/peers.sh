#!/bin/sh
# Whole commands against their peers, on a model of 0.6 GB in BF16 and its copies: sh bench/peers.sh BUILD [OPTION of times]...
#   PAIR="LAYERS HIDDEN FEED_FORWARD VOCABULARY"   another size (bench/pair.c)      PYTHON=...   one that has numpy
# Peers that are not installed are left out: apr diff (the reference), numpy, llama-quantize.
set -eu
build=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM

# shellcheck disable=SC2086  # four words
"$build/bench/pair" "$work" ${PAIR:-4 1792 4864 48128}
a=$work/model.safetensors b=$work/model-q4_k.gguf
same=$work/same.safetensors other=$work/other.safetensors
cp "$a" "$same"
# One value in thirteen is changed; the header, which has no control characters behind its length, is not.
{ head -c 8 "$a"; tail -c +9 "$a" | LC_ALL=C tr '\020-\037' '\021-\037\020'; } >"$other"

cat >"$work/measure.py" <<'PYTHON'
import sys, numpy as np
def floats(path):
    head = 8 + int.from_bytes(open(path, "rb").read(8), "little")
    return np.memmap(path, "<u2", "r", head)
x, y = map(floats, sys.argv[1:])
xy = xx = yy = most = 0
for at in range(0, len(x), 1 << 20):
    p, q = ((v[at:at + (1 << 20)].astype("<u4") << 16).view("<f4") for v in (x, y))
    xy, xx, yy, most = xy + float(p @ q), xx + float(p @ p), yy + float(q @ q), max(most, np.abs(p - q).max())
print(xy / np.sqrt(xx * yy), most)
PYTHON

differs='[ $? = 1 ]'

# WHAT FILE: that file against a, by everyone who can
compare() {
    what=$1 file=$2
    shift 2
    has_cpus=$(nproc)
    printf '\n%s\n\n' "$what"
    set -- "$@" "$what, apr-diff=$build/apr-diff --json $a $file || $differs"
    [ "$has_cpus" = 1 ] || set -- "$@" "$what, apr-diff --threads 1=$build/apr-diff --json --threads 1 $a $file || $differs"
    set -- "$@" "$what, cat both=cat $a $file"
    case $file in
    *.gguf)
        if command -v llama-quantize >/dev/null; then
            set -- "$@" "$what, llama-quantize one to Q8_0=llama-quantize --allow-requantize $file $work/out.gguf Q8_0 $has_cpus"
        fi ;;
    *)
        if [ "$file" = "$same" ]; then
            set -- "$@" "$what, cmp=cmp $a $file"
        fi
        if "${PYTHON:-python3}" -c 'import numpy' 2>/dev/null; then
            set -- "$@" "$what, numpy=${PYTHON:-python3} $work/measure.py $a $file"
        fi ;;
    esac
    if command -v apr >/dev/null; then
        set -- "$@" "$what, apr diff=apr diff $a $file --values --limit 339 --json"
    fi
    "$build/bench/times" --json "$build/bench.json" "$@"
}
compare "BF16, equal files" "$same" "$@"
compare "BF16, one in thirteen differs" "$other" "$@"
compare "BF16 and Q4_K" "$b" "$@"
