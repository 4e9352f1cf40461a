# Helpers of the tests on several hosts: sourced with the options of `lan run`, they start the test
# again on host h1 of an emulated network.  Then all of tests/cli/lib.sh holds, too.
# shellcheck shell=bash
lan=${SHOAL%/*}/tool/lan
if [ -z "${SHOAL_LAN-}" ]; then
    exec env SHOAL_LAN=1 "$lan" run "$@" -- bash "$0"
fi
set --
. tests/cli/lib.sh

# shellcheck disable=SC2034 # $address, $second and $run are for the tests
# start_worker_on HOST ARGUMENT...: as `start_worker`, on another host.
start_worker_on() {
    local host=$1 ready=$SHOAL_TMP/ready
    shift
    rm -f "$ready"
    mkfifo "$ready"
    "$lan" exec "$host" "$SHOAL" worker "$@" > "$ready" 2> "$SHOAL_TMP/worker.${#workers[@]}" < /dev/null &
    pid=$!
    workers+=("$pid")
    { read -r line && read -r second; } < "$ready" \
        || fail "worker $* was not ready: $(cat "$SHOAL_TMP"/worker.*)"
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

# begin_text_on HOST ARGUMENT...: as `begin_text`, on another host.
begin_text_on() {
    local host=$1 pipe=$SHOAL_TMP/text
    shift
    rm -f "$pipe"
    mkfifo "$pipe"
    python3 "$cli/one_page.py" "$pipe" "$SHOAL_TMP/text.err" "$lan" exec "$host" "$SHOAL" run --temp 0 \
        -n 20000 -c 30000 --no-perf "$@" &
    run=$!
    exec 9< "$pipe"
    read -r -n 1 _ <&9 || fail 'no text came'
}
