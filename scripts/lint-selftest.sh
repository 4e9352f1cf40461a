#!/usr/bin/env bash
# Proves that each check of scripts/lint.py can fail: plants one violation at a time into a small
# clean tree and expects exactly the finding that names it.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
bad=0

mkdir -p "$tree"/{mk,include/shoal,src/{base,tensor,kernels,net,engine,cmd},tests/e2e}
cp mk/parts.mk "$tree/mk/"
cp .clang-format "$tree/"

reset_tree() {
    find "$tree/src" "$tree/tests" "$tree/include" -type f -delete
    printf '#include "base/mem.h"\n\n#include <stdio.h>\n' > "$tree/src/base/mem.c"
    printf '/* malloc( in a comment is no call */\nvoid sh_use(void);\n' > "$tree/src/base/mem.h"
    printf 'void sh_hide(void);\n' > "$tree/src/base/mem_priv.h"
    printf '#include "base/mem.h"\n\nconst char *sh_text = "printf( in a string";\n' \
        > "$tree/src/net/stream.c"
    printf '#include "net/stream.h"\n' > "$tree/tests/e2e/run_test.c"
    printf 'void sh_stream(void);\n' > "$tree/src/net/stream_api.h"
}

# plant CHECK NAME FILE TEXT EXPECTED: with TEXT as FILE, that check must fail and print EXPECTED
# for FILE.
plant() {
    local check=$1 out rc=0
    shift
    reset_tree
    mkdir -p "$(dirname "$tree/$2")"
    printf '%b' "$3" > "$tree/$2"
    out=$(python3 "$here/scripts/lint.py" --root "$tree" --only "$check" 2>&1) || rc=$?
    if [ "$rc" -ne 1 ] || ! grep -qF -- "$4" <<< "$out" || ! grep -qF -- "$2:" <<< "$out"; then
        printf 'lint-selftest: %s: exit %s, wanted 1 and "%s: %s", got:\n%s\n' \
            "$1" "$rc" "$2" "$4" "$out"
        bad=1
    fi
}

# pass NAME FILE TEXT: with TEXT as FILE, lint must be content.
pass() {
    local out rc=0
    reset_tree
    printf '%b' "$3" > "$tree/$2"
    out=$(python3 "$here/scripts/lint.py" --root "$tree" 2>&1) || rc=$?
    if [ "$rc" -ne 0 ]; then
        printf 'lint-selftest: %s: exit %s, wanted 0, got:\n%s\n' "$1" "$rc" "$out"
        bad=1
    fi
}

pass 'a clean tree' src/net/other.c 'int sh_other(int a);\n'
pass 'names that only look banned' src/net/other.c \
    'void sh_other(struct dev *d)\n{\n    d->free(d);\n    sh_free(d);\n    my_printf(d);\n}\n'
pass 'the one goto' src/net/other.c 'void f(void)\n{\n    goto done;\ndone:\n    return;\n}\n'
pass 'printing in cmd' src/cmd/main.c 'int main(void)\n{\n    printf("x");\n    exit(1);\n}\n'
pass 'a function type' src/net/other.h 'typedef enum sh_kind sh_pick(int a);\n'

plant format 'formatting' src/net/other.c 'int   sh_other( int a );\n' 'is not formatted'
plant includes 'a part above' src/net/other.c '#include "engine/kv.h"\n' 'part net may not include'
plant includes 'a part beside' src/net/other.c '#include "tensor/graph.h"\n' 'part net may not include'
plant includes 'a private header' src/net/other.c '#include "base/mem_priv.h"\n' 'is private to src/base'
plant includes 'a private header in tests' tests/e2e/x_test.c '#include "base/mem_priv.h"\n' \
    'is private to src/base'
plant includes 'cmd in tests' tests/e2e/x_test.c '#include "cmd/main.h"\n' 'tests run the program'
plant includes 'a header without its part' src/net/other.c '#include "stream.h"\n' 'is not "part/unit.h"'
plant includes 'a header that is not there' src/net/other.c '#include "base/gone.h"\n' 'does not exist'
plant includes 'a part in angle brackets' src/net/other.c '#include <base/mem.h>\n' 'a part is included as'
plant includes 'an unknown part' src/nowhere/x.c 'int sh_x(int a);\n' 'is not in a part'
rm -rf "$tree/src/nowhere"
plant includes 'not its own header first' src/base/mem.c '#include <stdio.h>\n\n#include "base/mem.h"\n' \
    'does not include its own "base/mem.h" first'
plant includes 'a part in an installed header' include/shoal/x.h '#include "base/mem.h"\n' \
    'installed headers include'

call() { plant banned "$1" "$2" "void f(void)\n{\n    $3;\n}\n" "$4"; }
for name in strcpy strcat stpcpy sprintf vsprintf gets strtok atoi atol atoll atof; do
    call "$name" src/net/other.c "$name(a)" "$name has no bound"
done
for name in system popen alloca tmpnam mktemp; do
    call "$name" src/net/other.c "$name(a)" "$name is never needed"
done
for name in strerror localtime gmtime ctime asctime gethostbyname rand srand; do
    call "$name" src/net/other.c "$name(a)" "$name keeps state"
done
for name in malloc calloc realloc reallocarray free strdup strndup asprintf vasprintf \
    aligned_alloc posix_memalign; do
    call "$name" src/net/other.c "$name(a)" "$name goes around"
done
for name in printf fprintf vprintf vfprintf dprintf puts putchar perror; do
    call "$name" src/net/other.c "$name(a)" "$name prints below cmd"
done
for name in abort exit _exit _Exit quick_exit; do
    call "$name" src/net/other.c "$name(a)" "$name ends the process"
done
for name in sleep usleep; do
    call "$name" tests/e2e/x_test.c "$name(a)" "$name waits for a time"
done
call 'assert' src/net/other.c 'assert(a)' 'assert is not ours'
call 'a call after a string' src/net/other.c 'puts("//"), malloc(1)' 'malloc goes around'
call 'libm in a kernel' src/kernels/other.c 'a = expf(a)' 'expf comes from libm'
call 'a second goto' src/net/other.c 'goto again' 'again is not the one exit'
plant banned 'a hidden struct' src/net/other.h 'typedef struct a b;\n' 'struct hides'

[ "$bad" -eq 0 ] && echo 'lint-selftest: every check can fail'
exit "$bad"
