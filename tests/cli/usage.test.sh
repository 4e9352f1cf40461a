#!/usr/bin/env bash
# What the program says of itself, and of command lines that it cannot follow.
. tests/cli/lib.sh

version=$(sed -n 's/^#define SHOAL_VERSION "\(.*\)"/\1/p' include/shoal/version.h)
expect 0 --version
equal "$(head -1 "$SHOAL_TMP/out")" "shoal $version" 'version'
expect 0 version
equal "$(head -1 "$SHOAL_TMP/out")" "shoal $version" 'version'
expect 2 version --loud

expect 0 --help
for command in run worker status key inspect version; do out_has "^  $command "; done
for command in run worker status key inspect; do
    expect 0 "$command" --help
    out_has "^Usage: shoal $command "
    cp "$SHOAL_TMP/out" "$SHOAL_TMP/help"
    expect 0 help "$command"
    cmp "$SHOAL_TMP/out" "$SHOAL_TMP/help" || fail "help $command differs from $command --help"
    long=$(awk 'length > 80' "$SHOAL_TMP/help")
    [ -z "$long" ] || fail "lines over 80 columns: $long"
done
expect 0 run --help
for flag in -n -c -t --temp --top-k --top-p --min-p --repeat-penalty --seed --rpc --layers \
    --with-local --prompt-ids --logits-out --perplexity --stats --json --step-timeout; do
    out_has "^  (-[a-z]+, )?$flag |^  $flag, "
done

# usage ARGUMENT...: code 2, one sentence, nothing on stdout; it matches the last argument.
usage() {
    local pattern=${*: -1}
    expect 2 "${@:1:$#-1}"
    out_is_empty
    says "$pattern"
}
usage 'which command'
usage rnu 'no command "rnu"; did you mean run'
usage serve 'no command "serve"; there are: run, worker, status, key, bench, inspect, version'
usage run 'run: which model'
usage run -m x 'which prompt'
usage run -m x -p a --tmp 1 'no option --tmp; did you mean --temp'
usage run -m x -p a --wrong-altogether 'no option --wrong-altogether '
usage run -m x -p a --wrong-altogether=3 'no option --wrong-altogether '
usage run -m x -p a -n 'n needs a value: -n N'
usage run -m x -p a -n many '-n takes a whole number, at least -2, not "many"'
usage run -m x -p a -n 3x 'not "3x"'
usage run -m x -p a -n 99999999999999999999 'not "99999999999999999999"'
usage run -m x -p a --top-p 1.5 '--top-p takes a number from 0 to 1, not "1.5"'
usage run -m x -p a --temp nan '--temp takes a number .*"nan"'
usage run -m x -p a --json=yes '--json takes no value'
usage run -m x -p a -ctk q8_0 '-ctk takes one of f16.f32, not "q8_0"'
usage run -m x -p a -ctk f16 -ctv f32 'must be the same'
usage run -m x -p a --prompt-ids 1,2, '--prompt-ids takes whole numbers'
usage run -m x --prompt-ids 1,-2 '--prompt-ids takes whole numbers'
usage run -m x -p a -f y 'only one of -p, -f and --prompt-ids'
usage run -m x -p a --perplexity y 'reads its own text'
usage run -m x --perplexity y --logits-out z 'goes with a prompt'
usage run -m x -p a --with-local '--with-local goes with --workers and --rpc'
usage run -m x -p a --rpc a:1,b:2 --layers 1,2,3 '--layers has 3 numbers for 2 machines'
usage run -m x -p a --rpc a:1,,b:2 '--rpc takes'
usage run -m x -p a stray '"stray" belongs to no option'
usage run -m x -p a -cnv '-cnv is not possible: .+'
usage run -m x -p a --mirostat 2 '--mirostat is not possible: .+'
usage run -m x -hf name 'not downloaded'
usage worker --memory lots '--memory takes a size such as 16G'
usage worker --threads 100000 'threads takes a whole number from -1 to 256'
usage worker --listen 127.0.0.1:0 --port 1 '--listen says all'
usage worker --listen 127.0.0.1:99999 'no port'
usage inspect 'which file'
usage inspect a b 'one model too many'

# Flags of llama.cpp without a meaning here do no harm, whatever value they are given.
tiny -n 2 --no-perf -ngl 99 -fa on -no-cnv --no-mmap --mlock -dev none -ts 3,1 -sm layer --no-warmup
[ "$(grep -c 'has no effect: ' "$SHOAL_TMP/err")" -eq 9 ] || fail 'not one note per flag'
tiny -n 2 --no-perf -fa -n 3 --json
equal "$(json 'len(d["ids"])')" 3 'ids behind a bare -fa'
# Names as llama.cpp takes them: '_' for '-', and several of one thing.
tiny --n_predict 4 --json
equal "$(json 'len(d["ids"])')" 4 'ids with --n_predict'
tiny --predict=5 --json
equal "$(json 'len(d["ids"])')" 5 'ids with --predict=5'
