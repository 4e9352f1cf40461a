#!/usr/bin/env python3
"""Check what the compiler does not: formatting, include direction, banned calls.

    scripts/lint.py [--root DIR] [--only format|includes|banned]

Prints one line per finding, "path:line: sentence", and exits 1 if there is any.  The direction of
the parts is read from mk/parts.mk.  scripts/lint-selftest.sh proves that each check can fail.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

CLANG_FORMAT_MAJOR = 14  # another major version formats some lines differently

TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)

# name of the rule, what it matches, where it does not apply (path prefixes and suffixes), why
ANYWHERE = ()
TESTS = ('tests/', 'examples/', '_test.c', '_test.h')
BANNED = [
    ('strings', r'\b(strcpy|strcat|stpcpy|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof)\s*\(',
     ANYWHERE, 'has no bound or no error'),
    ('process', r'\b(system|popen|alloca|tmpnam|mktemp)\s*\(', ANYWHERE, 'is never needed'),
    ('shared state', r'\b(strerror|localtime|gmtime|ctime|asctime|gethostbyname|rand|srand)\s*\(',
     ANYWHERE, 'keeps state that threads share'),
    ('assert', r'\b(assert)\s*\(', ANYWHERE, 'is not ours: use SH_ASSERT or a status'),
    ('heap', r'(?<!\.)(?<!->)\b(malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf|'
     r'aligned_alloc|posix_memalign)\s*\(', ('src/base/',) + TESTS,
     'goes around base/mem.h'),
    ('printing', r'(?<!\.)(?<!->)\b(printf|fprintf|vprintf|vfprintf|dprintf|puts|putchar|perror)\s*\(',
     ('src/cmd/', 'src/base/error.c') + TESTS, 'prints below cmd: use a status or the log'),
    ('ending', r'(?<!\.)(?<!->)\b(abort|exit|_exit|_Exit|quick_exit)\s*\(',
     ('src/cmd/', 'src/base/error.c') + TESTS, 'ends the process below cmd'),
    ('sleeping', r'(?<!\.)(?<!->)\b(sleep|usleep)\s*\(', ANYWHERE, 'waits for a time instead of for an event'),
    ('goto', r'\bgoto\s+(?!done\b)(\w+)', ANYWHERE, 'is not the one exit: goto done only'),
    ('typedef', r'\btypedef\s+(struct|union|enum)\b(?=\s*\w*\s*(?:\{|\w+\s*;))', ANYWHERE, 'hides what a name is'),
]
# Results of libm differ between systems; these have forms of our own in kernels.
LIBM = re.compile(r'\b((?:exp|exp2|expm1|log|log2|log10|log1p|sin|cos|tan|sinh|cosh|tanh|pow|erf|'
                  r'cbrt|atan|atan2|asin|acos)f?)\s*\(')

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def read_parts(root):
    """mk/parts.mk as {part: set of the parts it may include}."""
    direct = {}
    order = []
    with open(os.path.join(root, 'mk/parts.mk'), encoding='utf-8') as f:
        for line in f:
            m = re.match(r'(\w+)\s*:=\s*(.*)$', line)
            if not m:
                continue
            name, words = m.group(1), m.group(2).split()
            if name == 'PARTS':
                order = words
            elif name.startswith('DEPS_'):
                direct[name[5:]] = words
    allowed = {}
    for part in order:  # lowest first, so what it points to is done
        allowed[part] = {part}
        for dep in direct.get(part, []):
            if dep not in allowed:
                sys.exit('mk/parts.mk: %s points to %s, which does not come before it' % (part, dep))
            allowed[part] |= allowed[dep]
    return allowed


def sources(root):
    for top in ('include', 'src', 'tests', 'examples'):
        for folder, folders, files in os.walk(os.path.join(root, top)):
            folders.sort()
            for name in sorted(files):
                if name.endswith(('.c', '.h')):
                    yield os.path.relpath(os.path.join(folder, name), root)


def blank(text, keep_strings):
    """`text` without comments (and strings), line numbers kept."""
    def put(m):
        s = m.group(0)
        if keep_strings and s[0] in '"\'':
            return s
        return ('""' if s[0] == '"' else ' ') + '\n' * s.count('\n')
    return TOKENS.sub(put, text)


def line_of(text, at):
    return text.count('\n', 0, at) + 1


def check_include(path, quote, name, allowed, exists):
    """Why `path` may not include `name`, or None."""
    words = path.split('/')
    target = name.split('/')[0]
    if quote == '<':
        return 'a part is included as "%s"' % name if exists('src/' + name) else None
    if path.startswith('include/'):
        return 'installed headers include <shoal/...> and the system only, not "%s"' % name
    if words[0] in ('tests', 'examples'):
        if target in allowed and name.endswith('_priv.h'):
            return '"%s" is private to src/%s' % (name, target)
        if target == 'cmd':
            return 'tests run the program; they do not include "%s"' % name
        return None
    part = words[1]
    if target not in allowed or len(name.split('/')) != 2:
        return '"%s" is not "part/unit.h"' % name
    if target not in allowed[part]:
        return 'part %s may not include "%s" (mk/parts.mk)' % (part, name)
    if name.endswith('_priv.h') and target != part:
        return '"%s" is private to src/%s' % (name, target)
    if not exists('src/' + name):
        return '"%s" does not exist' % name
    return None


def check_includes(root, report):
    allowed = read_parts(root)

    def exists(path):
        return os.path.exists(os.path.join(root, path))

    for path in sources(root):
        words = path.split('/')
        if words[0] == 'src' and (len(words) != 3 or words[1] not in allowed):
            report(path, 1, 'is not in a part of mk/parts.mk')
            continue
        with open(os.path.join(root, path), encoding='utf-8') as f:
            text = blank(f.read(), True)
        found = list(INCLUDE.finditer(text))
        for m in found:
            why = check_include(path, m.group(1), m.group(2), allowed, exists)
            if why:
                report(path, line_of(text, m.start(1)), why)
        own = path[len('src/'):-len('.c')]
        if path.startswith('src/') and path.endswith('.c') and not path.endswith('_test.c'):
            for header in (own + '.h', own + '_priv.h'):
                if exists('src/' + header):
                    if not found or found[0].group(2) != header:
                        report(path, line_of(text, found[0].start(1)) if found else 1,
                               'does not include its own "%s" first' % header)
                    break


def applies(path, exceptions):
    return not any(path.startswith(e) if e.endswith('/') else path.endswith(e)
                   for e in exceptions)


def check_banned(root, report):
    rules = [(re.compile(pattern), skip, why) for _, pattern, skip, why in BANNED]
    for path in sources(root):
        with open(os.path.join(root, path), encoding='utf-8') as f:
            text = blank(f.read(), False)
        for pattern, skip, why in rules:
            if not applies(path, skip):
                continue
            for m in pattern.finditer(text):
                report(path, line_of(text, m.start(1)), '%s %s' % (m.group(1), why))
        if path.startswith('src/kernels/') and not path.endswith('_test.c'):
            for m in LIBM.finditer(text):
                report(path, line_of(text, m.start(1)),
                       '%s comes from libm: kernels have their own' % m.group(1))


def find_clang_format():
    for name in ('clang-format-%d' % CLANG_FORMAT_MAJOR, 'clang-format'):
        path = shutil.which(name)
        if path:
            said = subprocess.run([path, '--version'], capture_output=True, text=True, check=True)
            m = re.search(r'version (\d+)', said.stdout)
            return path, int(m.group(1)) if m else 0
    return None, 0


def check_format(root, report):
    tool, major = find_clang_format()
    if not tool:
        report('.clang-format', 1, 'clang-format is not installed')
        return
    if major != CLANG_FORMAT_MAJOR:
        print('lint: formatting not checked: clang-format is version %d, not %d'
              % (major, CLANG_FORMAT_MAJOR), file=sys.stderr)
        return
    files = list(sources(root))
    if not files:
        return
    out = subprocess.run([tool, '--dry-run', '--style=file'] + files, cwd=root,
                         capture_output=True, text=True, check=False)
    seen = set()
    for m in re.finditer(r'^(.+?):(\d+):\d+: (?:warning|error):', out.stderr, re.MULTILINE):
        if m.group(1) not in seen:
            seen.add(m.group(1))
            report(m.group(1), int(m.group(2)), 'is not formatted: make format')
    if out.returncode != 0 and not seen:
        report('.clang-format', 1, out.stderr.strip().split('\n')[0])


CHECKS = {'format': check_format, 'includes': check_includes, 'banned': check_banned}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('--root', default='.')
    parser.add_argument('--only', choices=sorted(CHECKS))
    args = parser.parse_args()
    findings = []
    for name, check in CHECKS.items():
        if args.only in (None, name):
            check(args.root, lambda path, line, why: findings.append((path, line, why)))
    for path, line, why in findings:
        print('%s:%d: %s' % (path, line, why))
    if findings:
        print('lint: %d findings' % len(findings), file=sys.stderr)
    return 1 if findings else 0


if __name__ == '__main__':
    sys.exit(main())
