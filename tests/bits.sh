#!/usr/bin/env bash
# Whether this tree trains to the same bits as another commit: tests/bits.sh COMMIT
#
# Both are built and trained by the same commands, on this machine: the CPU's matrix products depend on its vector extensions, so
# hashes are compared and not kept. For seeds 0 to 2: an epoch of `small` and 20 steps of `d2l` on the CPU, and on the virtual GPU,
# in each precision, a few steps of both, of which the second is recorded and the later ones are replays.
set -euo pipefail
cd "$(dirname "$0")/.."
base=${1:?"usage: tests/bits.sh COMMIT"}
top=$PWD
other=$top/target/bits/tree
target=${CARGO_TARGET_DIR:-$top/target}
export MLPCONV_REQUIRE_CUDA=1
# As virtual GPUs summed before they had the bits of tensor cores.
export VIRTUAL_GPU_SUMS=ordered

# The hashes of a tree's runs: tree, its target folder.
hashes() {
    (cd "$1" && CARGO_TARGET_DIR=$2 cargo build --quiet --release --workspace) >&2
    local train=$2/release/train gpu=$2/release/libvirtual_gpu.so runs
    runs=$(mktemp -d)
    run() {
        local name=$1 out=$runs/${1//\//-}
        shift
        "$@" --out "$out" --epochs 1 >"$out.log" 2>&1 || { cat "$out.log" >&2; return 1; }
        echo "$name $(sha256sum <"$out/weights.safetensors" | cut -c1-16)"
    }
    for seed in 0 1 2; do
        run "cpu/small/seed-$seed" "$train" --device cpu --preset small --seed $seed --test-limit 128
        run "cpu/d2l/seed-$seed" "$train" --device cpu --preset d2l --seed $seed --batch-size 16 --train-limit 320 --test-limit 16
        for precision in fp32 tf32 bf16; do
            local device=(env LD_PRELOAD="$gpu" "$train" --device cuda --precision $precision --seed $seed)
            run "gpu/small/$precision/seed-$seed" "${device[@]}" --preset small --batch-size 8 --train-limit 36 --test-limit 8
            run "gpu/d2l/$precision/seed-$seed" "${device[@]}" --preset d2l --batch-size 2 --train-limit 6 --test-limit 2
        done
    done
    rm -r "$runs"
}

mkdir -p target/bits
git worktree remove --force "$other" 2>/dev/null || true
git worktree add --quiet --detach "$other" "$base"
NVCC=${NVCC:-$(echo "$top"/target/nvcc/lib/python3*/site-packages/nvidia/cu13/bin/nvcc)}
[ -x "$NVCC" ] && export NVCC || unset NVCC
hashes "$other" "$top/target/bits/built" >target/bits/before
git worktree remove --force "$other"
hashes "$top" "$target" >target/bits/after
paste -d' ' target/bits/before <(cut -d' ' -f2 target/bits/after) | awk '{print $0, ($2 == $3 ? "same" : "DIFFERENT")}'
cmp target/bits/before target/bits/after && echo "all $(wc -l <target/bits/after) runs have the same bits as $base"
