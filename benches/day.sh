#!/usr/bin/env bash
# The proofs and measurements on a machine with a GPU, in three calls of at most nine minutes each:
#
#     benches/day.sh prove      the driver, our tests and the virtual GPU's on the card, compute-sanitizer
#     benches/day.sh measure    fusion, inference, memory, then ours and PyTorch's in turn, with each convolution
#     benches/day.sh explain    the recipe with several seeds, and the kernels of a step in Nsight Compute
#
# There is no Rust on such a machine: programs, tests, benches and the data set are staged in .gpu/, with the commit's hash in
# .gpu/commit (benches/README.md). Results lie in $OUT, else in target/day: CALL.txt has a line for each step, CALL.log what they
# said, CALL.tar the files that they wrote, but no weights. All are whole after each step. A step that fails or hangs is listed as
# such, and the next one begins; so is what there is no time for. DAY_SECONDS is the time of a call.
#
# Without a GPU this is a rehearsal on the virtual GPU, with the smallest batches: put libvirtual_gpu.so into .gpu/tests. Its times
# mean nothing, steps have ten times as long, a call an hour, and what only a card has is left out.
set -u
cd "$(dirname "$0")/.." || exit
call=${1:-}
case $call in
prove | measure | explain) ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' benches/day.sh >&2
    exit 2
    ;;
esac

staged=$PWD/.gpu
out=$(mkdir -p "${OUT:-target/day}" && cd "${OUT:-target/day}" && pwd) || exit
# What a run before has left stays.
for kind in txt log tar; do [ ! -e "$out/$call.$kind" ] || mv "$out/$call.$kind" "$out/$call.before.$kind"; done
text=$out/$call.txt log=$out/$call.log files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
# Python keeps what it prints, unless it is told otherwise, and a step that is cut off would leave nothing.
environment=(PYTHONUNBUFFERED=1 "CARGO_TARGET_DIR=$files")

if ! commit=$(cat "$staged/commit" 2>/dev/null || git rev-parse --short HEAD 2>/dev/null); then
    echo "what was built here? write its commit into .gpu/commit" >&2
    exit 1
fi
unset MLPCONV_TESTS VIRTUAL_GPU_TESTS
if [ -e "${DAY_CARD:-/dev/nvidiactl}" ]; then
    card=true time=530 patience=1 batches=(128 1) timing=() quick=() training=()
    environment+=(MLPCONV_TESTS=real VIRTUAL_GPU_TESTS=real)
else
    card=false time=3600 patience=10 batches=(1) timing=(--preset small --steps 1 --rounds 1) quick=(--quick)
    training=(--resize 67 --epochs 1 --batch-size 2 --train-limit 4 --test-limit 2)
    environment+=("LD_PRELOAD=$staged/tests/libvirtual_gpu.so")
    environment+=(MLPCONV_BENCH_BATCH=1 MLPCONV_BENCH_SIZE=67 MLPCONV_BENCH_STEPS=1)
    if [ ! -e "$staged/tests/libvirtual_gpu.so" ]; then
        echo "there is no GPU here; to rehearse on the virtual one, put libvirtual_gpu.so into .gpu/tests" >&2
        exit 1
    fi
fi
deadline=$((SECONDS + ${DAY_SECONDS:-$time}))
: >"$text" >"$log"

# A step: its name, the most seconds, and the command. With `file=NAME` before, what the command prints is a file of the results.
step() {
    local name=$1 most=$(($2 * patience)) began=$SECONDS to=$log ended
    shift 2
    if ((deadline - began < 3)); then
        echo "not begun  $name: the time is over" | tee -a "$text"
        return
    fi
    ((most < deadline - began)) || most=$((deadline - began))
    printf '\n== %s: %s\n' "$name" "$*" >>"$log"
    [ -z "${file:-}" ] || to=$files/$file
    timeout --kill-after=3 "$most" env "${environment[@]}" "$@" >>"$to" 2>>"$log"
    ended=$?
    case $ended in
    0) ended=good ;;
    124 | 137) ((SECONDS - began < most)) && ended="failed $ended" || ended="cut off" ;;
    *) ended="failed $ended" ;;
    esac
    printf '%-10s %s, %d s\n' "$ended" "$name" $((SECONDS - began)) | tee -a "$text"
    tar -C "$files" --exclude='*.safetensors' --exclude=criterion -cf "$out/$call.part" . && mv "$out/$call.part" "$out/$call.tar"
}

# The same for what only a card has.
on_a_card() {
    if $card; then step "$@"; else echo "left out   $1: there is no GPU" | tee -a "$text"; fi
}

prove() {
    on_a_card "the card" 20 nvidia-smi
    step "doctor" 60 "$staged/bin/mlpconv" doctor --data-dir "$staged/fashion-mnist"
    # First what everything else rests on: the ops, then whole networks, then the instructions that the kernels are made of.
    step "ops" 200 "$staged/tests/ops"
    step "networks" 120 "$staged/tests/cuda"
    step "parity with PyTorch" 60 "$staged/tests/parity"
    step "networks by the library" 30 "$staged/tests/network"
    local test tool precision
    for test in forms kernels driver hopper; do
        step "the virtual GPU's $test" 60 "$staged/tests/virtual-gpu-$test"
    done
    for tool in memcheck racecheck initcheck synccheck; do
        for precision in bf16 tf32 fp32; do
            on_a_card "$tool in $precision" 40 compute-sanitizer --tool $tool --error-exitcode 9 \
                "$staged/bin/mlpconv" time --device cuda --precision $precision --batch-size 2 --steps 1 --rounds 1
        done
    done
}

measure() {
    on_a_card "the card" 20 nvidia-smi
    local precision batch bench
    for precision in bf16 tf32 fp32; do
        for batch in "${batches[@]}"; do
            file=time-$precision-$batch.json step "a step in $precision, batch $batch" 40 \
                "$staged/bin/mlpconv" time --device cuda --precision $precision --batch-size "$batch" --json "${timing[@]}"
        done
    done
    for bench in block network; do
        step "bench $bench" 60 "$staged/benches/$bench" --bench "${quick[@]}"
    done
    # It saves after each round, and has all the time that is left: torch.compile takes minutes.
    if $card; then
        step "ours and PyTorch's in turn" 530 python3 benches/compare.py --device cuda --commit "$commit" --rounds 2 --quick \
            --mlpconv "$staged/bin/mlpconv" --bench "$staged/benches/convolution" --json "$files/gpu.json"
    else
        step "ours alone" 530 python3 benches/compare.py --device cuda --commit "$commit" --rounds 1 --quick --modes none \
            --batch 1 --steps 1 --mlpconv "$staged/bin/mlpconv" --bench "$staged/benches/convolution" --json "$files/gpu.json"
    fi
}

explain() {
    local run preset precision seed
    for run in d2l-bf16-0 d2l-bf16-1 d2l-bf16-2 d2l-tf32-0 stable-bf16-0; do
        IFS=- read -r preset precision seed <<<"$run"
        step "ten epochs of $preset in $precision, seed $seed" 100 "$staged/bin/train" --preset $preset --device cuda \
            --precision $precision --seed $seed --out "$files/$run" --data-dir "$staged/fashion-mnist" "${training[@]}"
    done
    for precision in bf16 tf32 fp32; do
        file=model-$precision.txt step "the model of a step in $precision" 20 \
            "$staged/bin/mlpconv" model --gpu h200 --precision $precision
    done
    # Time, memory, caches, shared memory, pipes, issue slots and occupancy, of more launches than a step has, once all is loaded.
    local section sections=()
    for section in SpeedOfLight MemoryWorkloadAnalysis MemoryWorkloadAnalysis_Tables ComputeWorkloadAnalysis SchedulerStats Occupancy; do
        sections+=(--section $section)
    done
    for precision in bf16 tf32; do
        file=ncu-$precision.csv on_a_card "every kernel of a step in $precision" 120 \
            ncu --clock-control none --csv --page raw --launch-skip 60 --launch-count 60 "${sections[@]}" \
            "$staged/bin/mlpconv" time --device cuda --precision $precision --batch-size 128 --steps 1 --rounds 1
    done
}

$call
! grep -q '^failed\|^cut off\|^not begun' "$text"
