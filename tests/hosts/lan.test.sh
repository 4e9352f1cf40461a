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
between() { # LEAST VALUE MOST WHAT
    echo "$4: $2"
    if [ "$2" -lt "$1" ] || [ "$2" -gt "$3" ]; then fail "$4 is $2, not $1 to $3"; fi
}

within() {
    local server port
    mkfifo "$SHOAL_TMP/port"
    "$lan" exec h2 python3 "$stream" serve 10.77.0.2 > "$SHOAL_TMP/port" &
    server=$!
    read -r port < "$SHOAL_TMP/port"

    # Never faster than asked for; how much slower is the machine's business.
    between 4000 "$(python3 "$stream" rtt 10.77.0.2 "$port")" 60000 'round trip in us'
    between 10000000 "$("$lan" exec h3 python3 "$stream" rate 10.77.0.2 "$port" 2000000)" 20400000 \
        'bits per second'

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
