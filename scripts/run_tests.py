#!/usr/bin/env python3
"""Build shoal in every configuration that tests need, run the tests, say how they went.

    scripts/run_tests.py [--full] [--only TEXT]

What is counted: each case of a cmocka program, each script tests/**/*.test.sh, each build.  The
last line is "N passed, N failed, N skipped"; the exit code is 1 if anything failed.

A test program or script may carry a line "test-options: WORDS" near its top:
    timeout=SECONDS   instead of 120 (sanitizers and emulators get four times as long)
    serial            run alone, after the others (for tests that measure time)
    no-sanitizers     only in the plain configuration

Scripts run in the repository's root with SHOAL (absolute path of the program), SHOAL_BUILD (root
of the build, as make's B takes it), SHOAL_CFG and SHOAL_TMP (an empty folder of their own) set.  Exit 0 is a pass, 77 a skip with the
reason as the last line of stdout.  Nothing may be left running.

tests/may-skip lists which tests may be skipped: name, blanks, reason.  With CI set any other skip
is a failure.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

TIMEOUT_S = 120
SLOW_FACTOR = 4
OPTION_LINES = 40
OUTPUT_LINES = 80
SLOWEST = 20

SANITIZER_ENV = {
    'asan': {'ASAN_OPTIONS': 'detect_leaks=1:strict_string_checks=1:allocator_may_return_null=1',
             'UBSAN_OPTIONS': 'print_stacktrace=1'},
    'tsan': {'TSAN_OPTIONS': 'exitcode=66:second_deadlock_stack=1'},
}


class Test:
    """One program or script in one configuration."""

    def __init__(self, cfg, build, name, argv, source):
        self.cfg = cfg
        self.build = build
        self.name = name  # as in tests/may-skip
        self.argv = argv
        self.is_script = source.endswith('.sh')
        self.timeout = TIMEOUT_S
        self.serial = False
        self.sanitizers = True
        self.read_options(source)
        if cfg in SANITIZER_ENV or build == ARM64_BUILD:
            self.timeout *= SLOW_FACTOR

    def label(self):
        return '%s: %s' % (VARIANTS.get(self.build, self.cfg), self.name)

    def read_options(self, source):
        with open(source, encoding='utf-8', errors='replace') as f:
            head = [line for _, line in zip(range(OPTION_LINES), f)]
        for line in head:
            m = re.search(r'\btest-options:\s*([\w= -]+)', line)
            for word in m.group(1).split() if m else []:
                if word.startswith('timeout='):
                    self.timeout = int(word[len('timeout='):])
                elif word == 'serial':
                    self.serial = True
                elif word == 'no-sanitizers':
                    self.sanitizers = False
                else:
                    sys.exit('%s: unknown test option "%s"' % (source, word))


class Result:
    def __init__(self, test, seconds, passed, failed, skipped, output):
        self.test = test
        self.seconds = seconds
        self.passed = passed    # names of cases
        self.failed = failed    # (name, why)
        self.skipped = skipped  # (name, reason)
        self.output = output


def end_group(pgid):
    """Kill what is left of a process group; True if there was something.  A process that is only
    waiting to be reaped by init does not count."""
    for _ in range(20):
        alive = False
        for entry in os.listdir('/proc'):
            if not entry.isdigit():
                continue
            try:
                with open('/proc/%s/stat' % entry, encoding='utf-8', errors='replace') as f:
                    fields = f.read().rpartition(')')[2].split()
            except OSError:
                continue
            if int(fields[2]) == pgid and fields[0] not in 'ZX':
                alive = True
        if not alive:
            return False
        time.sleep(0.05)  # a child that was told to stop may need a moment
    try:
        os.killpg(pgid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


RUNNING = set()  # process groups, for an interrupt


def run_command(argv, env, timeout):
    """(exit code or None on timeout, output, seconds, was something left running)"""
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                              stderr=subprocess.STDOUT, env=env, start_new_session=True) as proc:
            RUNNING.add(proc.pid)
            try:
                code = proc.wait(timeout=timeout)
            except subprocess.TimeoutExpired:
                code = None
                os.killpg(proc.pid, signal.SIGKILL)
                proc.wait()
        seconds = time.monotonic() - start
        left = end_group(proc.pid) and code is not None
        RUNNING.discard(proc.pid)
        out.seek(0)
        return code, out.read().decode('utf-8', errors='replace'), seconds, left


def describe_exit(code, timeout):
    if code is None:
        return 'ran past %d s' % timeout
    if code < 0:
        return 'ended by %s' % signal.Signals(-code).name
    return 'exit code %d' % code


def judge_script(test, code, output):
    if code == 0:
        return [test.name], [], []
    if code == 77:
        lines = output.strip().splitlines()
        return [], [], [(test.name, lines[-1] if lines else 'no reason given')]
    return [], [(test.name, describe_exit(code, test.timeout))], []


def judge_program(test, code, output):
    """Cases of a cmocka program: what ran and neither passed nor was skipped has failed."""
    ran = re.findall(r'\[ RUN      \] (\S+)', output)
    ok = set(re.findall(r'\[       OK \] (\S+)', output))
    skips = set(re.findall(r'\[  SKIPPED \] (\S+)', output))
    passed, failed, skipped = [], [], []
    for case in ran:
        name = '%s:%s' % (test.name, case)
        if case in skips:
            skipped.append((name, 'skipped by the test'))
        elif case in ok:
            passed.append(name)
        else:
            failed.append((name, describe_exit(code, test.timeout)))
    if code == 77 and not ran:
        return judge_script(test, code, output)
    if code != 0 and not failed:
        failed.append((test.name, describe_exit(code, test.timeout)))
    if code == 0 and not ran:
        failed.append((test.name, 'ran no case'))
    return passed, failed, skipped


def run_test(test, prefix):
    tmp = tempfile.mkdtemp(prefix='shoal_test_')
    env = dict(os.environ)
    env.update(SANITIZER_ENV.get(test.cfg, {}))
    env.update({'SHOAL': os.path.abspath(os.path.join(test.build, test.cfg, 'shoal')),
                'SHOAL_BUILD': test.build, 'SHOAL_CFG': test.cfg, 'SHOAL_TMP': tmp, 'LC_ALL': 'C.UTF-8'})
    env.pop('CMOCKA_MESSAGE_OUTPUT', None)
    for name in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS'):
        env.pop(name, None)
    if test.build == CLANG_BUILD:
        env['CC'] = 'clang'
    try:
        code, output, seconds, left = run_command(prefix + test.argv, env, test.timeout)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    judge = judge_script if test.is_script else judge_program
    passed, failed, skipped = judge(test, code, output)
    if left:
        passed, failed = [], failed + [(test.name, 'left processes running')]
    return Result(test, seconds, passed, failed, skipped, output)


def make(*words):
    return subprocess.run(['make', '--no-print-directory'] + list(words), check=False)


def listed(*words):
    out = subprocess.run(['make', '--no-print-directory', '-s'] + list(words),
                         stdout=subprocess.PIPE, text=True, check=True).stdout
    return out.split()


def scripts_below(top, full):
    found = []
    for folder, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files):
            if name.endswith('.test.sh') or (full and name.endswith('.full.sh')):
                path = os.path.join(folder, name)
                in_full = path.startswith('tests/full/')
                if full or not in_full:
                    found.append(path)
    return found


def programs(cfg, build, target):
    """Test programs of one configuration, as make lists them."""
    base = '%s/%s/test/' % (build, cfg)
    for path in listed('CFG=' + cfg, 'B=' + build, target):
        name = path[len(base):]
        source = (name if name.startswith('tests/') else 'src/' + name) + '.c'
        yield Test(cfg, build, name, [path], source)


def arm64_words():
    """make's variables for the arm64 build, and the Result of asking for them."""
    script = 'scripts/make-arm64.sh'
    argv = ['bash', script, '--words']
    result = run_test(Test('release', BUILD, script, argv, script), [])
    if not result.passed:
        return [], result
    out = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout
    return out.splitlines(), result


def plan(full, results):
    """(cfg, build, make words, what runs a test, tests) for each configuration."""
    suffix = '-full' if full else ''
    jobs = '-j%d' % CPUS
    rows = [('release', BUILD, ['CC=' + CC], 'tests' + suffix, 'list-tests' + suffix),
            ('asan', BUILD, ['CC=' + CC], 'tests' + suffix, 'list-tests' + suffix),
            ('tsan', BUILD, ['CC=' + CC], 'tests-tsan', 'list-tests-tsan')]
    if full:
        rows.append(('release', CLANG_BUILD, ['CC=clang'], 'tests', 'list-tests'))
        words, result = arm64_words()
        results.append(result)
        report(result)
        if words:
            rows.append(('release', ARM64_BUILD, words, 'tests-portable', 'list-tests-portable'))
    for cfg, build, words, target, lister in rows:
        prefix = tsan_prefix() if cfg == 'tsan' else []
        for word in words:
            if word.startswith('RUN='):
                prefix = word[len('RUN='):].split()
        words = words + ['CFG=' + cfg, 'B=' + build, jobs, target]

        def collect(cfg=cfg, build=build, lister=lister):
            tests = list(programs(cfg, build, lister))
            if cfg != 'tsan' and build == BUILD:
                tests += [Test(cfg, build, s, ['bash', s], s) for s in scripts_below('tests', full)]
            return [t for t in tests if t.sanitizers or cfg == 'release']
        yield cfg, build, words, prefix, collect


def tsan_prefix():
    """Old TSan runtimes cannot place their shadow when addresses are spread too far."""
    argv = ['setarch', '-R']
    try:
        ok = subprocess.run(argv + ['true'], check=False, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        ok = False
    return argv if ok else []


def report(result):
    mark = 'FAIL' if result.failed else 'skip' if result.skipped and not result.passed else 'ok'
    print('%-4s %6.1f s  %s' % (mark, result.seconds, result.test.label()), flush=True)
    if result.failed:
        lines = result.output.splitlines()
        if len(lines) > OUTPUT_LINES:
            print('     ... %d lines before' % (len(lines) - OUTPUT_LINES))
        for line in lines[-OUTPUT_LINES:]:
            print('     | ' + line)
        for name, why in result.failed:
            print('     %s: %s' % (name, why), flush=True)


def run_all(tests, prefix, results):
    """Tests side by side first, then the serial ones.  An interrupt ends what is running."""
    try:
        with concurrent.futures.ThreadPoolExecutor(max_workers=CPUS) as pool:
            together = [pool.submit(run_test, t, prefix) for t in tests if not t.serial]
            try:
                for future in together:
                    results.append(future.result())
                    report(results[-1])
            except KeyboardInterrupt:
                pool.shutdown(wait=False, cancel_futures=True)
                for pgid in list(RUNNING):
                    end_group(pgid)
                raise
        for test in tests:
            if test.serial:
                results.append(run_test(test, prefix))
                report(results[-1])
    except KeyboardInterrupt:
        for pgid in list(RUNNING):
            end_group(pgid)
        raise


def read_may_skip():
    allowed = {}
    try:
        with open('tests/may-skip', encoding='utf-8') as f:
            for line in f:
                words = line.split(None, 1)
                if words and not words[0].startswith('#'):
                    allowed[words[0]] = words[1].strip() if len(words) > 1 else ''
    except FileNotFoundError:
        pass
    return allowed


def close(results, broken, seconds):
    """Print the summary; the exit code."""
    allowed = read_may_skip()
    strict = bool(os.environ.get('CI'))
    n_passed = sum(len(r.passed) for r in results)
    failed = list(broken)
    n_skipped = 0
    for r in results:
        failed += ['%s: %s' % (r.test.label(), name) if name != r.test.name else r.test.label()
                   for name, _ in r.failed]
        for name, reason in r.skipped:
            may = name in allowed
            print('skipped: %s [%s]: %s%s' % (name, r.test.cfg, allowed.get(name) or reason,
                                              '' if may else ' (not in tests/may-skip)'))
            if strict and not may:
                failed.append('%s: skipped: %s' % (r.test.label(), name))
            else:
                n_skipped += 1
    slow = sorted(results, key=lambda r: -r.seconds)[:SLOWEST]
    print('slowest:')
    for r in slow:
        print('  %6.1f s  %s' % (r.seconds, r.test.label()))
    for name in failed:
        print('failed: ' + name)
    print('%.0f s in all' % seconds)
    print('%d passed, %d failed, %d skipped' % (n_passed, len(failed), n_skipped), flush=True)
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', maxsplit=1)[0])
    parser.add_argument('--full', action='store_true',
                        help='long tests, a clang build and an arm64 build, too')
    parser.add_argument('--only', default='', metavar='TEXT', help='tests whose name has TEXT')
    args = parser.parse_args()
    start = time.monotonic()
    results, broken = [], []
    for cfg, build, words, prefix, collect in plan(args.full, results):
        what = 'build ' + VARIANTS.get(build, cfg)
        print('== ' + what, flush=True)
        if make(*words).returncode != 0:
            broken.append(what)
            continue
        tests = [t for t in collect() if args.only in t.name]
        run_all(tests, prefix, results)
    return close(results, broken, time.monotonic() - start)


BUILD = os.environ.get('B', 'build')
CLANG_BUILD = BUILD + '-clang'
ARM64_BUILD = BUILD + '/arm64'  # as scripts/make-arm64.sh has it
VARIANTS = {CLANG_BUILD: 'clang', ARM64_BUILD: 'arm64'}
CC = os.environ.get('CC', 'gcc')
CPUS = len(os.sched_getaffinity(0))

if __name__ == '__main__':
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr)
        os._exit(130)
