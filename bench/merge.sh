#!/bin/sh
# apr-merge and apr-prune beside cp with fsync, and beside mergekit, on checkpoints of 0.6 GB in BF16:
#     sh bench/merge.sh BUILD [OPTION of times]...
#   PAIR="LAYERS HIDDEN FEED_FORWARD VOCABULARY"   another size (bench/pair.c)      PYTHON=...   one that has mergekit (slow: 6 rounds)
set -eu
build=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM

set_sizes() { layers=$1 hidden=$2 feed=$3 vocabulary=$4; }
# shellcheck disable=SC2086  # four words
set_sizes ${PAIR:-4 1792 4864 48128}
mkdir "$work/base" "$work/a" "$work/b" "$work/c"
"$build/bench/pair" "$work/base" "$layers" "$hidden" "$feed" "$vocabulary"
rm "$work/base/model-q4_k.gguf"
cat >"$work/base/config.json" <<JSON
{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": $hidden, "intermediate_size": $feed, "num_hidden_layers": $layers,
 "num_attention_heads": $((hidden / 128)), "num_key_value_heads": $((hidden / 128 / 7)), "vocab_size": $vocabulary, "rms_norm_eps": 1e-6,
 "rope_theta": 1000000.0, "max_position_embeddings": 32768, "hidden_act": "silu", "tie_word_embeddings": false, "torch_dtype": "bfloat16"}
JSON
seed=0
for model in a b c; do
    seed=$((seed + 1))
    "$build/bench/tuned" "$work/base/model.safetensors" "$work/$model/model.safetensors" $seed
    cp "$work/base/config.json" "$work/$model"
done
sync

# NAME METHOD BASE MODEL...: a configuration
configure() {
    name=$1 method=$2 base=$3
    shift 3
    {
        echo "merge_method: $method"
        [ "$base" = none ] || echo "base_model: $work/$base"
        echo "dtype: bfloat16"
        echo "models:"
        for model; do
            echo "  - {model: $work/$model, parameters: {weight: 0.5, density: 0.5}}"
        done
    } >"$work/$name.yml"
}
configure linear linear none a b
sed -i 's/, density: 0.5//' "$work/linear.yml"
configure ties ties base a b c
configure dare_ties dare_ties base a b c

ours() { echo "$1=$build/apr-merge $work/$1.yml $work/ours/ --force --quiet"; }
copied="cp, fsync=cp $work/a/model.safetensors $work/copy && sync $work/copy"
echo "$(wc -c <"$work/a/model.safetensors") bytes a model, $(nproc) cores, load of the machine $(cut -d' ' -f1 /proc/loadavg)"
"$build/bench/times" --rounds 7 --seconds 600 --json "$build/merge.json" "$@" "$copied" "$(ours linear)" "$(ours ties)" "$(ours dare_ties)" \
    "apr-prune, half of each matrix=$build/apr-prune $work/a $work/ours/ --sparsity 0.5 --force --quiet" \
    "apr-prune, 2:4=$build/apr-prune $work/a $work/ours/ --pattern 2:4 --force --quiet"

if [ -z "${PYTHON:-}" ] || ! "$PYTHON" -c 'import mergekit' 2>/dev/null; then
    echo "without mergekit: PYTHON=... names a Python that has it"
    exit
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
for method in linear ties dare_ties; do
    "$build/bench/times" --rounds 6 --seconds 1 "$(ours $method)" \
        "mergekit, $method=$PYTHON -m mergekit.scripts.run_yaml $work/$method.yml $work/theirs --lazy-unpickle --allow-crimes"
done
