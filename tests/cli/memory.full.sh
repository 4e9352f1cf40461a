#!/usr/bin/env bash
# A model of 1 GB over two workers: each takes its half of the weights, its cache and at most 64 MB
# more, and gives it back; the host reads the file where it is and keeps no second copy.
# test-options: timeout=400 no-sanitizers
. tests/cli/lib.sh
limit=200

need_kb=3000000
if [ "$(df -Pk "$SHOAL_TMP" | awk 'NR == 2 { print $4 }')" -lt $need_kb ]; then
    echo "needs 3 GB of disk for a model of 1 GB"
    exit 77
fi
if [ "$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)" -lt $need_kb ]; then
    echo "needs 3 GB of free memory for a model of 1 GB"
    exit 77
fi
model=$SHOAL_TMP/big.gguf
"${SHOAL%/*}/tool/bigmodel" "$model"

# measured LISTED-WORKERS ARGUMENT...: runs over them and compares memory with the plan.
cat > "$SHOAL_TMP/measured.py" << 'EOP'
import json, subprocess, sys
sys.dont_write_bytecode = True
sys.path.insert(0, 'bench')
import measure

MORE = 64 << 20       # of a worker, beyond its weights and its cache
HOST = 48 << 20       # of the host: neither weights nor cache
pids = [int(w) for w in sys.argv[1].split(',')]
out = open(sys.argv[2], 'w+')
p = subprocess.Popen(sys.argv[3:], stdout=out, stdin=subprocess.DEVNULL)
sampler = measure.Sampler()
sampler.start([p.pid] + pids)
code = p.wait()
peak = sampler.end()
assert code == 0, code
out.seek(0)
d = json.load(out)
failed = False


def check(what, value, bound):
    global failed
    print('%s: %.1f MB, at most %.1f MB' % (what, value / 1e6, bound / 1e6), flush=True)
    failed = failed or value > bound


for i, (pid, part) in enumerate(zip(pids, d['plan'])):
    planned = part['weight_bytes'] + part['kv_bytes']
    check('worker %d, its own memory' % i, peak[pid]['RssAnon'] + peak[pid]['RssShmem'], planned + MORE)
    # The highest mark of the system misses nothing; pages of files are the program itself.
    status = measure.status_of(pid)
    check('worker %d, all memory' % i, status['VmHWM'] - status['RssFile'], planned + MORE)
    assert peak[pid]['RssAnon'] > part['weight_bytes'], 'the weights are not there'
check('host, its own memory', peak[p.pid]['RssAnon'] + peak[p.pid]['RssShmem'], HOST)
sys.exit(failed)
EOP
measured() {
    local pids=$1
    shift
    python3 "$SHOAL_TMP/measured.py" "$pids" "$SHOAL_TMP/out" "$SHOAL" run -m "$model" --temp 0 --json \
        --no-perf "$@" || fail "memory with $*"
}
# own PID KB: does it have at most that much for itself?
own() { [ "$(awk '/^RssAnon:/ { print $2 }' "/proc/$1/status")" -le "$2" ]; }

start_worker -t 1
first=$pid
workers_at=$address
start_worker -t 1
second=$pid
workers_at+=,$address
ids=$(seq -s, 1000 1511)
for _ in 1 2; do
    measured "$first,$second" -c 4096 -n 4 --prompt-ids "$ids" --rpc "$workers_at" --layers 10,10
    wait_until own "$first" 40000
    wait_until own "$second" 40000
done

# Unsplit, the weights are pages of the file and nothing else.
python3 - "$SHOAL" "$model" << 'EOP' || fail 'memory unsplit'
import subprocess, sys
sys.dont_write_bytecode = True
sys.path.insert(0, 'bench')
import measure
p = subprocess.Popen([sys.argv[1], 'run', '-m', sys.argv[2], '-p', 'w300', '-n', '2', '--temp', '0', '-c',
                      '1024', '--no-perf'], stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
sampler = measure.Sampler()
sampler.start([p.pid])
code = p.wait()
peak = sampler.end()[p.pid]
print('unsplit: %.1f MB of its own, %.1f MB of files' % (peak['RssAnon'] / 1e6, peak['RssFile'] / 1e6))
sys.exit(code or peak['RssAnon'] > 128 << 20 or peak['RssFile'] < 900 << 20)
EOP
