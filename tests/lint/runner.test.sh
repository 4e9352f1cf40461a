#!/usr/bin/env bash
# The test runner counts right: a toy tree whose tests pass, fail, skip, crash, hang and leave
# processes behind.
# test-options: no-sanitizers
# shellcheck disable=SC2016 # the toys expand what is quoted
set -euo pipefail

here=$PWD
toy="$SHOAL_TMP/a toy"
mkdir -p "$toy"/{tests/e2e,src/base,build/release/test/base}
cd "$toy"

# A make that builds nothing and lists what lies there.
cat > Makefile <<'END'
.PHONY: tests tests-full tests-tsan list-tests list-tests-full list-tests-tsan
tests tests-full: ; @test "$(CFG)" != "$(BROKEN)"
tests-tsan list-tests-tsan: ; @:
list-tests list-tests-full: ; @ls build/$(CFG)/test/base/* 2> /dev/null || :
END
script() { printf '%s\n' "# test-options: no-sanitizers $2" "$3" > "tests/e2e/$1.test.sh"; }
program() {
    : > "src/base/$1.c"
    printf '#!/bin/sh\n%s\n' "$2" > "build/release/test/base/$1"
    chmod +x "build/release/test/base/$1"
}
failed=0
# expect CODE "N passed, ..." [TEXT]: the runner ends so, and prints TEXT.
expect() {
    local code=0
    python3 "$here/scripts/run_tests.py" > out.txt 2>&1 || code=$?
    if [ "$code" -ne "$1" ] || [ "$(tail -n 1 out.txt)" != "$2" ] || ! grep -qF -- "${3-}" out.txt
    then
        printf 'wanted exit %s, "%s", "%s"; got exit %s and:\n' "$1" "$2" "${3-}" "$code"
        cat out.txt
        failed=1
    fi
    rm -rf tests/e2e/* src/base/* build/release/test/base/*
}
unset CI

script good '' 'test -d "$SHOAL_TMP"'
program unit 'echo "[ RUN      ] a__one"; echo "[       OK ] a__one"'
expect 0 '2 passed, 0 failed, 0 skipped'

script bad '' 'echo told why; exit 3'
expect 1 '0 passed, 1 failed, 0 skipped' 'told why'

script away '' 'echo no network here; exit 77'
expect 0 '0 passed, 0 failed, 1 skipped' 'no network here (not in tests/may-skip)'

script away '' 'exit 77'
CI=true expect 1 '0 passed, 1 failed, 0 skipped' 'skipped: tests/e2e/away.test.sh'

script away '' 'exit 77'
printf '# comment\ntests/e2e/away.test.sh needs a network\n' > tests/may-skip
CI=true expect 0 '0 passed, 0 failed, 1 skipped' 'needs a network'

script hang 'timeout=1' 'while :; do read -r -t 9 _ < <(tail -f /dev/null); done'
expect 1 '0 passed, 1 failed, 0 skipped' 'ran past 1 s'

script leave '' 'tail -f /dev/null & exit 0'
expect 1 '0 passed, 1 failed, 0 skipped' 'left processes running'

program unit 'echo "[ RUN      ] a__one"; echo "[       OK ] a__one"
echo "[ RUN      ] a__two"; echo "[  SKIPPED ] a__two"
echo "[ RUN      ] a__three"; kill -SEGV $$'
expect 1 '1 passed, 1 failed, 1 skipped' 'a__three: ended by SIGSEGV'

program unit 'echo "[ RUN      ] a__one"; echo "[       OK ] a__one"; exit 66'
expect 1 '1 passed, 1 failed, 0 skipped' 'exit code 66'

program unit 'exit 0'
expect 1 '0 passed, 1 failed, 0 skipped' 'ran no case'

program unit 'echo "[ RUN      ] a__one"; echo "[       OK ] a__one"'
export BROKEN=asan
expect 1 '1 passed, 1 failed, 0 skipped' 'failed: build asan'
exit "$failed"
