#!/usr/bin/env bash
# The proofs and measurements on a machine with a GPU, in three calls of at most nine minutes each:
#
#     benches/day.sh prove      the driver, compute-sanitizer, our tests and the virtual GPU's on the card
#     benches/day.sh measure    steps, inference, memory, ours and PyTorch's in turn with each convolution, fusion
#     benches/day.sh explain    the recipe with several seeds, and the kernels of a step in Nsight Compute
#
# There is no Rust on such a machine: programs, tests, benches and the data set are staged in .gpu/, with the commit's hash in
# .gpu/commit (benches/README.md). Results lie in $OUT, else in target/day: CALL.txt has a line for each step, CALL.log what they
# said, CALL.tar the files that they wrote, but no weights. All are whole after each step. A step that fails or hangs is listed as
# such, and the next one begins; so is what there is no time for. What matters most is first. DAY_SECONDS is the time of a call.
#
# Without a GPU this is a rehearsal on a virtual GPU of compute capability 9.0, with the smallest batches: put
# libvirtual_gpu.so into .gpu/tests. Its times mean nothing, steps have ten times as long, a call an hour, and what only a
# card has is left out.
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
text=$out/$call.txt log=$out/$call.log scratch=$(mktemp -d) || exit
trap 'rm -rf "$scratch"' EXIT
files=$scratch/files
mkdir "$files" "$scratch/cache"
# Python keeps what it prints, unless it is told otherwise, and a step that is cut off would leave nothing. The driver
# keeps the code that it compiles from PTX for the steps that follow.
environment=(PYTHONUNBUFFERED=1 "CARGO_TARGET_DIR=$files" "CUDA_CACHE_PATH=$scratch/cache")

# CUDA's tools may be installed without being in PATH.
newest=$(printf '%s\n' /opt/nvidia/nsight-compute/* | sort -V | tail -n 1)
for folder in /usr/local/cuda/bin "$newest"; do
    if [ -d "$folder" ] && ! { command -v ncu && command -v compute-sanitizer; } >/dev/null; then PATH=$folder:$PATH; fi
done

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
    environment+=("LD_PRELOAD=$staged/tests/libvirtual_gpu.so" VIRTUAL_GPU_SM=9.0)
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

# A step with one of compute-sanitizer's tools at a precision. It takes mlpconv-checked where that is staged: a build with
# debug assertions, whose buffers have their exact sizes, and with the lines of the kernels' sources.
sanitize() {
    local tool=$1 precision=$2 most=35 options=() program=$staged/bin/mlpconv-checked
    [ -x "$program" ] || program=$staged/bin/mlpconv
    case $tool in
    # The program handles what calls return, such as cuEventQuery's NOT_READY. memcheck would count that as errors.
    memcheck) most=40 options=(--report-api-errors no) ;;
    # Debug assertions fill buffers with NaN, so nothing would be found uninitialised.
    initcheck) program=$staged/bin/mlpconv ;;
    esac
    on_a_card "$tool in $precision" $most compute-sanitizer --tool "$tool" "${options[@]}" --error-exitcode 9 \
        "$program" time --device cuda --precision "$precision" --batch-size 2 --steps 1 --rounds 1
}

# The limits of all steps up to initcheck in bf16 sum up to 525 seconds, so each of them is begun even if all others hang.
prove() {
    local test tool precision
    step "doctor" 45 "$staged/bin/mlpconv" doctor --data-dir "$staged/fashion-mnist"
    for precision in bf16 tf32 fp32; do sanitize memcheck $precision; done
    step "ops" 130 "$staged/tests/ops"
    step "networks" 75 "$staged/tests/cuda"
    step "parity with PyTorch" 35 "$staged/tests/parity"
    for tool in racecheck synccheck initcheck; do sanitize $tool bf16; done
    step "networks by the library" 30 "$staged/tests/network"
    # The instructions that the kernels are made of. These tests choose the virtual GPU's capability themselves.
    local own=(env -u VIRTUAL_GPU_SM)
    for test in forms kernels hopper; do
        step "the virtual GPU's $test" 60 "${own[@]}" "$staged/tests/virtual-gpu-$test"
    done
    # The tests of the driver hold up streams, and the loading of a kernel at its first launch could wait for these. After a
    # trap CUDA wants the process to end, so each test that traps has a process of its own.
    own+=(CUDA_MODULE_LOADING=EAGER)
    local driver=$staged/tests/virtual-gpu-driver
    step "the virtual GPU's driver" 60 "${own[@]}" "$driver" --skip traps::
    file=traps.txt step "the driver's traps, a list" 10 bash -c '"$0" --list traps:: | grep ": test$"' "$driver"
    for test in $(sed 's/: test$//' "$files/traps.txt" 2>/dev/null); do
        step "the driver's $test" 15 "${own[@]}" "$driver" --exact "$test"
    done
    for tool in racecheck synccheck initcheck; do
        for precision in tf32 fp32; do sanitize $tool $precision; done
    done
}

measure() {
    local precision batch bench
    local compare=(python3 benches/compare.py --device cuda --commit "$commit" --quick
        --mlpconv "$staged/bin/mlpconv" --bench "$staged/benches/convolution")
    for precision in bf16 tf32 fp32; do
        for batch in "${batches[@]}"; do
            file=time-$precision-$batch.json step "a step in $precision, batch $batch" 30 \
                "$staged/bin/mlpconv" time --device cuda --precision $precision --batch-size "$batch" --json "${timing[@]}"
        done
    done
    # Without the kernels that are made for the GPU's own architecture.
    batch=${batches[0]}
    file=time-bf16-$batch-portable.json step "a step in bf16, batch $batch, by portable kernels" 30 \
        "$staged/bin/mlpconv" time --device cuda --precision bf16 --batch-size "$batch" --json --portable "${timing[@]}"
    # It saves after each round.
    if $card; then
        step "ours and PyTorch's in turn" 220 "${compare[@]}" --rounds 2 \
            --modes fp32,fp32-cl,tf32,tf32-cl,bf16,bf16-cl --json "$files/gpu.json"
    else
        step "ours alone" 220 "${compare[@]}" --modes none --rounds 1 --batch 1 --steps 1 --json "$files/gpu.json"
    fi
    for bench in block network; do
        step "bench $bench" 40 "$staged/benches/$bench" --bench "${quick[@]}"
    done
    # torch.compile takes minutes, and has all the time that is left. Its file has the other modes' figures too.
    [ ! -e "$files/gpu.json" ] || compare+=(--add "$files/gpu.json")
    on_a_card "ours and torch.compile's in turn" 530 "${compare[@]}" --rounds 1 \
        --modes tf32-cl-compile,bf16-cl-compile --json "$files/gpu-compile.json"
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
        on_a_card "every kernel of a step in $precision" 120 \
            ncu --clock-control none --csv --page raw --launch-skip 60 --launch-count 60 "${sections[@]}" \
            --log-file "$files/ncu-$precision.log" \
            "$staged/bin/mlpconv" time --device cuda --precision $precision --batch-size 128 --steps 1 --rounds 1
        # ncu writes notes (`==PROF==`) among the rows.
        file=ncu-$precision.csv on_a_card "their table in $precision" 5 grep '^"' "$files/ncu-$precision.log"
    done
}

step "the machine" 5 bash -c \
    'uname -r; for tool in ncu compute-sanitizer python3 git; do command -v $tool || echo "no $tool"; done'
on_a_card "the card" 10 nvidia-smi
$call
! grep -q '^failed\|^cut off\|^not begun' "$text"
