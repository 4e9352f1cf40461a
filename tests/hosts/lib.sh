# Helpers of the tests on several hosts: sourced with the options of `lan run`, they start the test
# again on host h1 of an emulated network.  Then all of tests/cli/lib.sh holds, too.
# shellcheck shell=bash
lan=${SHOAL%/*}/tool/lan
if [ -z "${SHOAL_LAN-}" ]; then
    exec env SHOAL_LAN=1 "$lan" run "$@" -- bash "$0"
fi
set --
. tests/cli/lib.sh

# shellcheck disable=SC2034 # $address is for the tests
# start_worker_on HOST ARGUMENT...: sets $pid, $line (what it prints) and $address (its end).
start_worker_on() {
    local host=$1 ready=$SHOAL_TMP/ready
    shift
    rm -f "$ready"
    mkfifo "$ready"
    "$lan" exec "$host" "$SHOAL" worker "$@" > "$ready" 2> "$SHOAL_TMP/worker.${#workers[@]}" < /dev/null &
    pid=$!
    workers+=("$pid")
    read -r line < "$ready" || fail "worker $* was not ready: $(cat "$SHOAL_TMP"/worker.*)"
    address=${line##* }
}

# expect_on HOST CODE ARGUMENT...: as `expect`, on another host.
expect_on() {
    local host=$1 want=$2
    shift 2
    code=0
    timeout -k 5 "$limit" "$lan" exec "$host" "$SHOAL" "$@" > "$SHOAL_TMP/out" 2> "$SHOAL_TMP/err" \
        < /dev/null || code=$?
    [ "$code" -eq "$want" ] || fail "exit code $code, not $want: on $host: shoal $*"
}
