#!/usr/bin/env bash
# What a worker and a run log: one line per session, for people and as JSON, whatever clients send.
# test-options: timeout=300
. tests/cli/lib.sh

log() { timeout "$limit" python3 "$cli/log.py" "$@"; }
worker_log() { echo "$SHOAL_TMP/worker.$((${#workers[@]} - 1))"; }
logged() { [ "$(grep -Ec 'session ended|connection refused' "$(worker_log)")" -ge "$1" ]; }
use() { # sets $good, $bad and $lost, the ports of two sessions and of one that is none
    local ports
    ports=$(log use "$address") || fail "the sessions failed: $(cat "$(worker_log)")"
    read -r good bad lost <<< "$ports"
    wait_until logged 3
}
check() { log check "$(worker_log)" "$1" || fail "the log $(worker_log)"; }
has() { grep -Eq -- "$1" "$(worker_log)" || fail "no line with /$1/: $(cat "$(worker_log)")"; }

# ---- for programs
start_worker -t 1 --log json
use
check '[l.get("event") for l in lines] == ["start", "session", "session", "refused"]'
check '{k: type(v).__name__ for k, v in lines[0].items()} == dict(time="str", level="str", part="str",
    message="str", event="str", version="str", device="str", address="str", keys="str", major="int",
    memory_max_bytes="int", connections_max="int", per_address_max="int")'
check "lines[0]['address'] == '$address' and lines[0]['part'] == 'worker'"
one() { # PORT EXPRESSION over l, the line of that session
    check "[bool($2) for l in lines if l.get('client') == '127.0.0.1:$1'] == [True]"
}
one "$good" '{k: type(v).__name__ for k, v in l.items()} == dict(time="str", level="str", part="str",
    message="str", event="str", client="str", major="int", bytes_in="int", bytes_out="int",
    graphs="int", compute_s="float", total_s="float", peak_bytes="int", work_bytes="int", status="str", reason="str")'
one "$good" '(l["level"], l["status"], l["reason"]) == ("info", "OK", "closed by the client")'
# 33 greeting, 21 + 17 per buffer, 17 freed, 9 + 305 + 32 set, 9 + 12 + 8 + 3 * 296 graph and so on
one "$good" 'l["bytes_in"] == 33 + 3 * (21 + 17) + 17 + 346 + 9 + 4 + 4 + 8 + 4 + 3 * 296 + 13 + 321'
one "$good" 'l["bytes_out"] == 36 + 3 * (24 + 16) + 24'
one "$good" 'l["graphs"] == 2 and l["major"] == 7 and 0 <= l["compute_s"] <= l["total_s"]'
one "$good" '3000000 <= l["peak_bytes"] < 3100000'
# 2 and 4 MiB for data both ways, 64 KiB for a payload, and a graph or two
one "$good" '6291456 + 65536 < l["work_bytes"] < 6500000'
one "$bad" '(l["level"], l["status"], l["command"]) == ("warn", "ERR_FORMAT", "GRAPH_COMPUTE")'
one "$bad" 'l["reason"] in l["message"] and "GRAPH_COMPUTE: " in l["message"] and l["major"] == 7'
one "$bad" 'READ in l["reason"] and READ in l["message"] and l["peak_bytes"] >= 1000'
one "$lost" '(l["level"], l["part"]) == ("warn", "door") and "first byte is 0" in l["reason"]'
one "$lost" 'l["reason"] in l["message"] and "bytes_in" not in l and "status" not in l'

# A client that dies in the middle of a frame, and one that is open when the worker is told to stop.
exec 7<> "/dev/tcp/127.0.0.1/${address##*:}"
printf '\016\030\000' >&7
exec 7>&-
wait_until logged 4
check '"middle of a frame" in lines[-1]["reason"] and lines[-1]["status"] == "ERR_PEER"'
exec 7<> "/dev/tcp/127.0.0.1/${address##*:}"
printf '\016\030\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000\000' >&7
head -c 36 <&7 | wc -c | grep -qx 36 || fail 'no answer to a greeting'
stop_worker "$pid"
exec 7>&-
check 'lines[-2]["status"] == "ERR_CANCELLED" and lines[-2]["level"] == "info"'
check '(lines[-1]["event"], lines[-1]["sessions"], lines[-1]["otherwise"]) == ("stop", 1, 3)'

# ---- more lines than ten per second are counted, and nothing is lost without a trace; a session
# that computed has its line all the same
start_worker -t 1 --log json
log flood "$address" 14
ports=$(log use "$address") || fail 'the sessions failed'
stop_worker "$pid"
check 'len([l for l in lines if l.get("event") == "session"]) +
    sum(l["lines"] for l in lines if l.get("event") == "left_out") == 16'
check '(lines[-1]["sessions"], lines[-1]["otherwise"]) == (1, 15)'
one "${ports%% *}" 'l["graphs"] == 2'

# ---- for people
start_worker -t 1
use
time='[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z'
columns='in +[0-9.]+ k?B  out +[0-9.]+ k?B  graphs +[0-9]+  compute +[0-9.]+ s  total +[0-9.]+ s  peak +[0-9.]+ [kM]?B'
has "^$time info  worker: .* listening on $address"
has "^$time info  ggmlrpc: 127\.0\.0\.1:$good: session ended: closed by the client +$columns  major +7$"
has "^$time warn  ggmlrpc: 127\.0\.0\.1:$bad: session ended: GRAPH_COMPUTE: .*a\"b.c\?\?\[2J\?.*  $columns  major +7$"
has "^$time warn  door: 127\.0\.0\.1:$lost: connection refused: .*its first byte is 0.*$"
stop_worker "$pid"
has "^$time info  worker: stopped"
grep -q '[^[:print:]]' "$(worker_log)" && fail "control characters in $(worker_log)"
start_worker -t 1 --log-level warn
use=$(log use "$address")
wait_until logged 2
stop_worker "$pid"
equal "$(grep -c '' "$(worker_log)")" 2 'lines at --log-level warn'

# ---- a log that nobody reads holds nobody up
mkfifo "$SHOAL_TMP/full"
exec 6<> "$SHOAL_TMP/full"
python3 -c '
import os
os.set_blocking(6, False)
try:
    while os.write(6, bytes(4096)): pass
except BlockingIOError: pass
os.set_blocking(6, True)'
rm -f "$SHOAL_TMP/ready"
mkfifo "$SHOAL_TMP/ready"
"$SHOAL" worker --listen 127.0.0.1:0 -t 1 > "$SHOAL_TMP/ready" 2>&6 < /dev/null &
pid=$!
workers+=("$pid")
read -r line < "$SHOAL_TMP/ready"
log use "${line##* }" > /dev/null || fail 'sessions beside a log that nobody reads'
kill -TERM "$pid"
code=0
for ((i = 0; i < limit * 10; i++)); do
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.1
done
kill -0 "$pid" 2> /dev/null && fail 'a worker waits for the reader of its log'
wait "$pid" || code=$?
equal "$code" 0 'exit code of a worker whose log nobody reads'
exec 6>&-

# ---- everything on stderr is JSON then: mistakes, refusals, failures, a run's own sentences
json_errors() { log check "$SHOAL_TMP/err" "$1" || fail "$1"; }
expect 2 worker --log json --listen 0.0.0.0:0
json_errors 'len(lines) == 1 and lines[0]["level"] == "error" and "--pair" in lines[0]["message"]'
expect 2 worker --log=json --memory none
json_errors 'len(lines) == 1 and "--memory" in lines[0]["message"]'
expect 2 worker --log xml
says 'xml'
tiny -n 3 --log json --seed 1 -ngl 99 -v
json_errors 'len(lines) >= 1 and any("ngl" in l["message"] for l in lines)'
expect 1 run --log json -m "$SHOAL_TMP/none.gguf" -p a
json_errors 'len(lines) == 1 and lines[0]["level"] == "error" and "none.gguf" in lines[0]["message"]'
