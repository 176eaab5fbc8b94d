#!/bin/sh
# Whole commands against their peers on files of GIB gibibytes (default 1): sh bench/peers.sh build/release [GIB]
# cmp reads both files and compares bytes; numpy, where python3 has it with safetensors, computes cosine and largest difference.
set -eu
bin=$1 gib=${2:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# NAME TEXT: one BF16 tensor of that text over and over, which reads as small numbers
model() {
    rows=$((gib * 65536))
    json="{\"w\":{\"dtype\":\"BF16\",\"shape\":[$rows,8192],\"data_offsets\":[0,$((rows * 16384))]}}"
    { printf "\\$(printf %o ${#json})\\0\\0\\0\\0\\0\\0\\0%s" "$json"
      yes "$2" | tr '\n' '=' | head -c $((rows * 16384)); } >"$work/$1.safetensors"
}
model a 0123456789:
model same 0123456789:
model other 0123456789

timed() {
    label=$1; shift
    begin=$(date +%s%N)
    "$@" >/dev/null || true
    printf '%-32s %6d ms\n' "$label" $((($(date +%s%N) - begin) / 1000000))
}
a=$work/a.safetensors
for threads in 1 "$(nproc)"; do
    timed "apr-diff, equal, $threads threads" "$bin/apr-diff" --threads "$threads" "$a" "$work/same.safetensors"
    timed "apr-diff, different, $threads threads" "$bin/apr-diff" --threads "$threads" "$a" "$work/other.safetensors"
done
timed "cmp, equal" cmp "$a" "$work/same.safetensors"
if python3 -c 'import numpy, safetensors' 2>/dev/null; then
    timed "numpy, different" python3 - "$a" "$work/other.safetensors" <<'PYTHON'
import sys, numpy as np
def floats(path):
    head = 8 + int.from_bytes(open(path, "rb").read(8), "little")
    return (np.memmap(path, "<u2", "r", head).astype("<u4") << 16).view("<f4")
x, y = map(floats, sys.argv[1:])
print(x @ y / np.sqrt((x @ x) * (y @ y)), np.abs(x - y).max())
PYTHON
fi
