"""One measurement: workers are started, a model runs over them, figures come back.

A unit is a dictionary (what compare asks for), and so is its result, so that both can go through a
pipe: units on the emulated network run in a process of their own within it.  There the client is on
host h1 and the workers are on h2, h3 ...

How shoal reaches its workers is the unit's `way`: "rpc" (llama.cpp's protocol), "plain" (its own) or
"tls"; with `files` workers have the model themselves.
"""
import json
import os
import socket
import subprocess
import tempfile
import threading
import time

READY_S = 60
RUN_S = 600
SAMPLE_S = 0.01
TRIES = 10
START_TOKENS = 8  # more than one, so that the first is not also the last
STOCK_PORT = 50052
FIELDS = ('VmHWM', 'RssAnon', 'RssFile', 'RssShmem')


class Failure(Exception):
    """What went wrong, in one sentence."""


def prompt_ids(n, n_vocab):
    return ','.join(str((i * 7919 + 13) % n_vocab) for i in range(n))


def environment(unit):
    env = dict(os.environ)
    if unit.get('peer'):
        env['LD_LIBRARY_PATH'] = os.path.join(unit['peer'], 'bin')
    return env


# ---- memory of processes ---------------------------------------------------------------------

def status_of(pid):
    """The memory of a process in bytes: FIELDS of its status; None when it is gone."""
    found = {}
    try:
        with open('/proc/%d/status' % pid, encoding='ascii', errors='replace') as f:
            for line in f:
                name, _, rest = line.partition(':')
                if name in FIELDS:
                    found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return found or None


class Sampler:
    """Highest values of the memory of processes while they run."""

    def __init__(self):
        self.peak = {}
        self.stop = threading.Event()
        self.thread = None

    def start(self, pids):
        self.peak = {pid: {} for pid in pids}
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.is_set():
            for pid, peak in self.peak.items():
                for name, value in (status_of(pid) or {}).items():
                    peak[name] = max(peak.get(name, 0), value)
            self.stop.wait(SAMPLE_S)

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.peak


# ---- workers ---------------------------------------------------------------------------------

def free_port(address):
    with socket.socket() as s:
        s.bind((address, 0))
        return s.getsockname()[1]


def wait_for_port(address, port, process):
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Failure('a worker ended with code %d' % process.returncode)
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError:
            time.sleep(0.02)
    raise Failure('a worker does not listen on %s:%d' % (address, port))


class Workers:
    """The workers of a unit: .addresses to give to the client, .pids of their processes."""

    def __init__(self, unit):
        self.unit = unit
        self.processes = []
        self.addresses = []
        self.keys = None

    def start_shoal(self, prefix, address):
        u = self.unit
        argv = [u['shoal'], 'worker', '--listen', address + ':0', '--threads', str(u['threads']),
                '--log-level', 'error']
        if u.get('way') == 'tls':
            self.keys = self.keys or tempfile.TemporaryDirectory(prefix='shoal-bench.')
            argv += ['--keys', os.path.join(self.keys.name, 'keys'), '--pair', 'bench']
        else:
            argv += ['--insecure']
        if u.get('files'):
            argv += ['--models', os.path.dirname(u['model'])]
        p = subprocess.Popen(prefix + argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        self.processes.append(p)
        lines = [p.stdout.readline(), p.stdout.readline()]
        words = ' '.join(lines).split()
        if '--workers' not in words:
            raise Failure('a worker of shoal does not start')
        self.addresses.append(words[words.index('--workers') + 1])
        if '--key' in words:
            run([u['shoal'], 'key', 'add', self.addresses[-1], words[words.index('--key') + 1]],
                self.client_env())

    def client_env(self):
        """Of a client: keys that it keeps are gone with the workers."""
        env = dict(os.environ)
        if self.keys:
            env['XDG_CONFIG_HOME'] = self.keys.name
        return env

    def where(self):
        """What tells a client of shoal to use them."""
        if not self.addresses:
            return ['-t', str(self.unit['threads'])]
        if self.unit.get('way', 'rpc') == 'rpc':
            return ['--rpc', ','.join(self.addresses)]
        return ['--workers', ','.join(self.addresses)] + ([] if self.keys else ['--insecure'])

    def start_stock(self, prefix, address, on_link):
        u = self.unit
        port = STOCK_PORT if on_link else free_port(address)
        p = subprocess.Popen(prefix + [os.path.join(u['peer'], 'bin', 'ggml-rpc-server'), '-H', address,
                                       '-p', str(port), '-t', str(u['threads'])],
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                             stdin=subprocess.DEVNULL, env=environment(u))
        self.processes.append(p)
        wait_for_port(address, port, p)
        self.addresses.append('%s:%d' % (address, port))

    def __enter__(self):
        u = self.unit
        on_link = bool(u.get('link'))
        try:
            for i in range(u['workers']):
                prefix = [u['lan'], 'exec', 'h%d' % (i + 2)] if on_link else []
                address = '10.77.0.%d' % (i + 2) if on_link else '127.0.0.1'
                if u['side'] == 'shoal':
                    self.start_shoal(prefix, address)
                else:
                    self.start_stock(prefix, address, on_link)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
            if p.stdout:
                p.stdout.close()
        if self.keys:
            self.keys.cleanup()

    def pids(self):
        return [p.pid for p in self.processes]


# ---- clients ---------------------------------------------------------------------------------

def run(argv, env):
    p = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
                       env=env, timeout=RUN_S, check=False)
    if p.returncode != 0:
        tail = p.stderr.decode(errors='replace').strip().splitlines()[-3:]
        raise Failure('%s ended with code %d: %s' % (os.path.basename(argv[0]), p.returncode,
                                                    ' / '.join(tail)))
    return p.stdout


def shoal_argv(u, workers):
    return [u['shoal'], 'run', '-m', u['model'], '-c', str(u['ctx']), '--temp', '0', '--no-perf'] + workers.where()


def shoal_bench(u, workers, arguments):
    """`shoal bench` over these workers: its JSON."""
    return json.loads(run([u['shoal'], 'bench', '-m', u['model'], '--json'] + workers.where() + arguments,
                          workers.client_env()))


def stock_argv(u, addresses, program, fa):
    where = ['--rpc', ','.join(addresses), '-ngl', '99', '-sm', 'layer'] if addresses else []
    return [os.path.join(u['peer'], 'bin', program), '-m', u['model'], '-t', str(u['threads']),
            '-fa', fa] + where


def shoal_speed(u, workers):
    argv = shoal_argv(u, workers) + ['--json']
    env = workers.client_env()
    long = json.loads(run(argv + ['--prompt-ids', prompt_ids(u['prefill'], u['n_vocab']), '-n', '1'], env))
    text = json.loads(run(argv + ['-p', u['story'], '-n', str(u['decode'])], env))
    if text['timings']['predicted_n'] < u['decode']:
        raise Failure('the text ends after %d tokens; choose another model or a smaller --decode'
                      % text['timings']['predicted_n'])
    return {'prefill': long['timings']['prompt_per_second'],
            'decode': text['timings']['predicted_per_second']}


def stock_speed(u, workers):
    """Its own benchmark, warmed up; the better of flash attention on and off, each for itself."""
    argv = stock_argv(u, workers.addresses, 'llama-bench', '0,1')
    rows = json.loads(run(argv + ['-p', str(u['prefill']), '-n', str(u['decode']), '-r', '1', '-o', 'json'],
                          environment(u)))
    out = {}
    for row in rows:
        name = 'prefill' if row['n_prompt'] else 'decode'
        out['%s_fa%d' % (name, int(row['flash_attn']))] = row['avg_ts']
    return out


def first_byte(argv, env):
    """Seconds from starting a program to the first byte of its output.

    llama-completion prints from a thread of its own and now and then loses what it printed last
    when it ends; a short text of which nothing came is asked for again."""
    for _ in range(TRIES):
        begin = time.perf_counter()
        p = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             stdin=subprocess.DEVNULL, env=env)
        first = os.read(p.stdout.fileno(), 1)
        took = time.perf_counter() - begin
        while os.read(p.stdout.fileno(), 1 << 16):
            pass
        p.stdout.close()
        code = p.wait(RUN_S)
        if code != 0:
            break
        if first:
            return took
    raise Failure('%s printed nothing and ended with code %d' % (os.path.basename(argv[0]), code))


def completion_argv(u, addresses, fa, n):
    return stock_argv(u, addresses, 'llama-completion', fa) + [
        '-c', str(u['ctx']), '--temp', '0', '-no-cnv', '--no-display-prompt', '--no-warmup', '-n', str(n)]


def start_times(u, workers):
    if u['side'] == 'shoal':
        return {'start': first_byte(shoal_argv(u, workers) + ['--no-display-prompt', '-n',
                                                             str(START_TOKENS), '-p', u['question']],
                                    workers.client_env())}
    return {'start_fa%d' % fa: first_byte(completion_argv(u, workers.addresses, 'on' if fa else 'off',
                                                          START_TOKENS) + ['-p', u['question']],
                                          environment(u)) for fa in (0, 1)}


def memory_of(u, workers):
    """Peaks of the client and of each worker over a load and a text."""
    if u['side'] == 'shoal':
        argv = shoal_argv(u, workers) + ['-p', u['story'], '-n', str(u['decode'])]
    else:
        argv = completion_argv(u, workers.addresses, 'on', u['decode']) + ['-p', u['story']]
    p = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                         stdin=subprocess.DEVNULL,
                         env=workers.client_env() if u['side'] == 'shoal' else environment(u))
    sampler = Sampler()
    sampler.start([p.pid] + workers.pids())
    code = p.wait(RUN_S)
    peak = sampler.end()
    if code != 0:
        raise Failure('%s ended with code %d' % (os.path.basename(argv[0]), code))
    return {'host': peak[p.pid], 'workers': [peak[pid] for pid in workers.pids()]}


def measure(unit):
    """Run a unit here: {figure: value}."""
    out = {}
    with Workers(unit) as workers:
        if 'start' in unit['what']:
            out.update(start_times(unit, workers))
        if 'speed' in unit['what']:
            speed = shoal_speed if unit['side'] == 'shoal' else stock_speed
            out.update(speed(unit, workers))
        if 'memory' in unit['what']:
            out['memory'] = memory_of(unit, workers)
    return out


def measure_anywhere(unit, program):
    """Run a unit here, or in a process within the emulated network: `program` --unit."""
    link = unit.get('link')
    if not link:
        return measure(unit)
    argv = [unit['lan'], 'run', '--hosts', str(unit['workers'] + 1), '--rtt', link['rtt'],
            '--rate', link['rate'], '--mtu', str(link['mtu']), '--', program, '--unit', json.dumps(unit)]
    p = subprocess.run(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                       timeout=2 * RUN_S, check=False)
    lines = p.stdout.strip().splitlines()
    if p.returncode != 0:
        raise Failure(lines[-1] if lines else 'the emulated network ended with code %d' % p.returncode)
    return json.loads(lines[-1])
