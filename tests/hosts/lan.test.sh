#!/usr/bin/env bash
# The emulated network is what it was asked to be, and leaves nothing behind.
# test-options: no-sanitizers
set -euo pipefail
lan=${SHOAL%/*}/tool/lan
stream=tests/hosts/stream.py

fail() {
    echo "FAILED: $*"
    exit 1
}
# between LEAST MOST WHAT COMMAND...: prints the command such a number?  What is too slow is asked
# for again, since other work on the machine slows it down; too fast is wrong at once.
between() {
    local least=$1 most=$2 what=$3 value i
    shift 3
    for ((i = 0; i < 10; i++)); do
        value=$("$@")
        echo "$what: $value"
        if [ "$what" = 'round trip in us' ]; then
            [ "$value" -ge "$least" ] || fail "a $what of less than $least"
        else
            [ "$value" -le "$most" ] || fail "more than $most $what"
        fi
        if [ "$value" -ge "$least" ] && [ "$value" -le "$most" ]; then return; fi
    done
    fail "never $least to $most $what"
}

within() {
    local server port
    mkfifo "$SHOAL_TMP/port"
    "$lan" exec h2 python3 "$stream" serve 10.77.0.2 > "$SHOAL_TMP/port" &
    server=$!
    read -r port < "$SHOAL_TMP/port"

    # Never faster than asked for; how much slower is the machine's business.
    between 4000 8000 'round trip in us' python3 "$stream" rtt 10.77.0.2 "$port"
    between 10000000 20000000 'bits per second' \
        "$lan" exec h3 python3 "$stream" rate 10.77.0.2 "$port" 2000000

    # A cable that is cut carries nothing, one that is joined does again.
    "$lan" cut h2
    if timeout 2 python3 "$stream" rtt 10.77.0.2 "$port" 2> /dev/null; then fail 'the cable is cut'; fi
    "$lan" join h2
    python3 "$stream" rtt 10.77.0.2 "$port" > /dev/null || fail 'the cable is joined'
    kill "$server"
    exit 3 # the code is handed through
}
case ${1-} in
    within) within ;;
    hold)
        "$lan" exec h2 python3 "$stream" serve 10.77.0.2 &
        wait
        ;;
esac

code=0
timeout 110 "$lan" run --hosts 3 --rtt 4ms --rate 20mbit -- bash "$0" within > "$SHOAL_TMP/out" || code=$?
cat "$SHOAL_TMP/out"
[ "$code" -ne 77 ] || exit 77
[ "$code" -eq 3 ] || fail "exit code $code, not 3"

# Killed from outside: everything within ends, so that the pipe it writes to ends, too.
mkfifo "$SHOAL_TMP/held"
"$lan" run -- bash "$0" hold > "$SHOAL_TMP/held" &
pid=$!
exec 5< "$SHOAL_TMP/held"
read -r _ <&5 # the server on h2 runs
kill -KILL "$pid"
timeout 60 cat <&5 > /dev/null || fail 'something runs on after the end of lan'

for wrong in 'run --hosts 0 -- true' 'run --rtt 3 -- true' 'run --rate fast -- true' 'run' 'exec h0 true'; do
    code=0
    # shellcheck disable=SC2086
    "$lan" $wrong 2> /dev/null || code=$?
    [ "$code" -eq 2 ] || fail "exit code $code, not 2: lan $wrong"
done
