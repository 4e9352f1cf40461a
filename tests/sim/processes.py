#!/usr/bin/env python3
"""Real workers, a real `shoal run`, and seeded faults between them.

    SHOAL=build/release/shoal tests/sim/processes.py [FIRST [LAST]]

A seed starts one or two workers, each behind a proxy of this program, and lets a run generate
greedy ids over them: in llama.cpp's protocol, in shoal's own, or in that over TLS.  When the proxy
has passed so many bytes one way, or so long after the start, a fault strikes: a worker or the run
is killed or stopped, the proxy resets, ends, holds, delays or changes what passes, or refuses; or
that happens to the link from worker to worker alone, which passes through a proxy, too.  What must
hold:

  - the run ends in time, with the ids of an undisturbed run, or with code 1 and one sentence that
    names the worker concerned (in llama.cpp's protocol, which has no checksums, changed bytes may
    change ids)
  - a fault of the link alone hurts nobody
  - memory of shoal's own sessions is free again within the lease
  - a worker that was not killed gives an honest client the undisturbed ids, at once
  - told to end, it ends with code 0

A seed that fails prints the command that repeats it.
"""
import json
import os
import random
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

MODEL = 'tests/data/models/llama-dense-q4_0.gguf'
PROMPT = 'The cat and the dog'
N_TOKENS = 60
STEP_TIMEOUT_S = 3
RUN_LIMIT_S = 60  # 5 s to connect, 5 to greet, the step's time, and a slow machine
SLOWER = 1 if os.environ.get('SHOAL_CFG', 'release') == 'release' else 4
LEASE_S = 2
NOTICE_S = 40  # until a worker has found a lost client: 10 s of silence, and a slow machine
PROTOCOLS = ['rpc', 'own', 'tls']
LINK_KINDS = ['link-reset', 'link-end', 'link-hold', 'link-change']
LINK_PURPOSE_AT = 36  # in what a client sends first: preface, head, two revisions, features
KINDS = ['kill', 'stop', 'reset', 'end', 'hold', 'delay', 'change', 'refuse', 'leave', 'sleep']
# Lines that a run writes to stderr besides its one message.
NOTES = re.compile(r'^shoal: (seed |loading: |prompt: |run: note|note: |.*, context [0-9]+, loaded)')


class Broken(Exception):
    """A promise was not kept."""


class Worker:
    def __init__(self, protocol, folder):
        self.folder = tempfile.mkdtemp(dir=folder)
        argv = [os.environ['SHOAL'], 'worker', '--listen', '127.0.0.1:0', '-t', '1', '--lease',
                str(LEASE_S)]
        if protocol == 'tls':
            argv += ['--pair', 'host', '--keys', self.folder + '/keys']
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
        line = self.proc.stdout.readline()
        if protocol == 'tls':
            line = self.proc.stdout.readline()
        self.address = re.search(r'127[.]0[.]0[.]1:[0-9]+', line).group()
        key = re.search('SHOAL1-[A-Z0-9-]+', line)
        self.key = key.group() if key else None
        self.protocol = protocol
        self.killed = False
        self.said = []
        self.reader = threading.Thread(target=lambda: self.said.extend(self.proc.stderr))
        self.reader.start()

    def know(self, address):
        """From now on hosts know its key under this address."""
        if self.key:
            subprocess.run([os.environ['SHOAL'], 'key', 'add', address, self.key], check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def figures(self):
        done = subprocess.run([os.environ['SHOAL'], 'status', '--json', self.address],
                              check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            raise Broken('shoal status ends with code %d: %s' % (done.returncode, done.stderr))
        return json.loads(done.stdout)['workers'][0]['figures']

    def await_empty(self):
        """Nobody's session is left, and no memory of one."""
        end = time.monotonic() + (LEASE_S + NOTICE_S) * SLOWER
        while True:
            f = self.figures()
            if f['sessions'] == 0 and f['memory_sessions'] == 0:
                return
            if time.monotonic() > end:
                raise Broken('%d sessions and %d bytes are left on a worker' %
                             (f['sessions'], f['memory_sessions']))
            time.sleep(0.1)

    def signal(self, number):
        if self.proc.poll() is None:
            self.proc.send_signal(number)

    def end(self):
        """Tell it to end; how it ended."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            code = self.proc.wait(RUN_LIMIT_S * SLOWER)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
            code = None
        self.reader.join()
        self.proc.stdout.close()
        self.proc.stderr.close()
        return code


class Cut(Exception):
    """The connection is to end."""


class Connection:
    """One client's connection through a proxy: two sockets, a thread for each way."""

    def __init__(self, proxy, client, server):
        self.proxy = proxy
        self.socks = [client, server]
        self.wake = socket.socketpair()  # readable once the connection is to end
        self.lock = threading.Lock()
        self.reset = False
        self.first = b''  # what the client said first
        self.is_link = False
        self.n_ways = 2
        for sock in self.socks:
            sock.setblocking(False)
        self.threads = [threading.Thread(target=self.pump, args=('up', client, server)),
                        threading.Thread(target=self.pump, args=('down', server, client))]
        for t in self.threads:
            t.start()

    def await_socket(self, read, write):
        ready, _, _ = select.select(read + [self.wake[0]], write, [])
        if self.wake[0] in ready:
            raise Cut

    def send(self, dst, data):
        while data:
            self.await_socket([], [dst])
            data = data[dst.send(data):]

    def pump(self, way, src, dst):
        try:
            while True:
                self.await_socket([src], [])
                data = src.recv(self.proxy.piece)
                if way == 'up' and len(self.first) <= LINK_PURPOSE_AT:
                    self.first += data
                    self.is_link = (self.first[:5] == b'shoal' and
                                    self.first[LINK_PURPOSE_AT:LINK_PURPOSE_AT + 1] == b'\x02')
                if not data:
                    dst.shutdown(socket.SHUT_WR)
                    break
                self.proxy.pass_on(self, way, data, dst)
        except Cut:
            pass
        except OSError:  # one side was reset: so is the other
            self.cut(True)
        with self.lock:
            self.n_ways -= 1
            if self.n_ways > 0:
                return
        for sock in self.socks:  # nobody else uses them now, so a reset is one
            if self.reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            sock.close()

    def cut(self, reset):
        self.reset = self.reset or reset
        self.wake[1].send(b'.')

    def end(self):
        self.cut(False)
        for t in self.threads:
            t.join()
        for sock in self.wake:
            sock.close()


class Proxy:
    """Passes bytes between clients and one worker, until a fault says otherwise."""

    def __init__(self, worker, rng):
        self.worker = worker
        self.piece = rng.choice([100, 1500, 65536])
        self.listener = socket.socket()
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen(16)
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.passed = {'up': 0, 'down': 0, 'link up': 0, 'link down': 0}
        self.traps = []  # (way, byte, what to call)
        self.flows = {False: threading.Event(), True: threading.Event()}  # links: True
        for flows in self.flows.values():
            flows.set()
        self.delay_s = 0
        self.change = {way: False for way in self.passed}
        self.connections = []
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                self.listener.close()
                return
            host, port = self.worker.address.rsplit(':', 1)
            try:
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            self.connections.append(Connection(self, client, server))

    def pass_on(self, connection, way, data, dst):
        if connection.is_link:
            way = 'link ' + way
        while data:
            with self.lock:
                at = self.passed[way]
                due = [t for t in self.traps if t[0] == way and t[1] <= at]
                self.traps = [t for t in self.traps if t not in due]
                n = min([len(data)] + [t[1] - at for t in self.traps if t[0] == way])
            for _, _, call in due:
                call()
            if due:
                continue
            part, data = data[:n], data[n:]
            self.flows[connection.is_link].wait()
            if self.delay_s:
                threading.Event().wait(self.delay_s)
            if self.change[way]:
                self.change[way] = False
                part = bytes([part[0] ^ 0x55]) + part[1:]
            connection.send(dst, part)
            with self.lock:
                self.passed[way] += n

    def cut_all(self, reset, links_only=False):
        for c in list(self.connections):
            if c.is_link or not links_only:
                c.cut(reset)

    def hold(self, links_only=False):
        self.flows[True].clear()
        if not links_only:
            self.flows[False].clear()

    def go_on(self):
        for flows in self.flows.values():
            flows.set()

    def refuse(self):
        try:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which closes it
        except OSError:
            pass

    def end(self):
        self.go_on()
        self.refuse()
        self.thread.join()
        for c in self.connections:
            c.end()


class Run:
    def __init__(self, addresses, layers, protocol='rpc'):
        argv = [os.environ['SHOAL'], 'run', '-m', MODEL, '-p', PROMPT, '--temp', '0', '-n',
                str(N_TOKENS), '--json', '--step-timeout', str(STEP_TIMEOUT_S * SLOWER)]
        if addresses:
            argv += ['--rpc' if protocol == 'rpc' else '--workers', ','.join(addresses),
                     '--layers', layers]
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)

    def finish(self):
        """(code, ids or None, message)"""
        try:
            out, err = self.proc.communicate(timeout=RUN_LIMIT_S * SLOWER)
        except subprocess.TimeoutExpired as hang:
            self.proc.kill()
            self.proc.communicate()
            raise Broken('the run does not end') from hang
        lines = [line for line in err.splitlines()
                 if line.startswith('shoal: ') and not NOTES.match(line)]
        if self.proc.returncode == 0:
            return 0, json.loads(out)['ids'], ' / '.join(lines)
        if self.proc.returncode > 0 and len(lines) != 1:
            raise Broken('not one message but: %s' % err)
        return self.proc.returncode, None, ' / '.join(lines)


class Fault:
    """What strikes whom, and when."""

    def __init__(self, rng, proxies, traffic, protocol):
        links = protocol == 'own' and len(proxies) > 1  # inside TLS nobody can tell one
        self.protocol = protocol
        self.kind = rng.choice(KINDS + (2 * LINK_KINDS if links else []))
        self.proxy = rng.choice(proxies)
        self.way = rng.choice(['up', 'down'])
        if self.kind in LINK_KINDS:  # the worker with the rows goes to the other
            self.proxy = proxies[1]
            self.way = 'link ' + self.way
        all_bytes = traffic[proxies.index(self.proxy)][self.way]
        self.byte = rng.randrange(rng.choice([200, all_bytes, all_bytes]))
        self.after_s = rng.choice([None, None, None, rng.uniform(0, 0.3)])
        self.early = self.kind == 'refuse' and rng.random() < 0.5  # before the run starts
        if self.kind == 'refuse':
            self.after_s = rng.uniform(0, 0.03)
        self.lasts_s = rng.choice([None, rng.uniform(0, 0.3), rng.uniform(0, 4)])
        self.run = None
        self.struck = False
        self.lock = threading.Lock()
        self.timers = []
        self.over = False

    def __str__(self):
        when = 'byte %d %s' % (self.byte, self.way) if self.after_s is None else \
            'after %.2f s' % self.after_s
        lasts = 'for good' if self.lasts_s is None else 'for %.2f s' % self.lasts_s
        return '%s at %s, %s' % (self.kind, when, lasts)

    def later(self, seconds, call):
        with self.lock:
            if not self.over:
                self.timers.append(threading.Timer(seconds, call))
                self.timers[-1].start()

    def arm(self):
        if self.early:
            return
        if self.after_s is None:
            self.proxy.traps.append((self.way, self.byte, self.strike))
        else:
            self.later(self.after_s, self.strike)

    def strike(self):
        p, w = self.proxy, self.proxy.worker
        with self.lock:
            if self.over:
                return
            self.struck = True
        if self.kind == 'kill':
            w.killed = True
            w.signal(signal.SIGKILL)
        elif self.kind == 'stop':
            w.signal(signal.SIGSTOP)
        elif self.kind == 'reset':
            p.cut_all(True)
        elif self.kind == 'end':
            p.cut_all(False)
        elif self.kind in ('link-reset', 'link-end'):
            p.cut_all(self.kind == 'link-reset', True)
        elif self.kind in ('hold', 'link-hold'):
            p.hold(self.kind == 'link-hold')
        elif self.kind == 'delay':
            p.delay_s = 0.01
        elif self.kind in ('change', 'link-change'):
            p.change[self.way] = True
        elif self.kind == 'refuse':
            p.refuse()
        elif self.kind == 'leave':
            self.run.proc.kill()
        elif self.kind == 'sleep':
            self.run.proc.send_signal(signal.SIGSTOP)
        # What stops the run itself must end, else it does not.
        lasts_s = 0.5 if self.kind == 'sleep' and self.lasts_s is None else self.lasts_s
        if lasts_s is not None:
            self.later(lasts_s, self.pass_over)

    def pass_over(self):
        if self.kind == 'stop':
            self.proxy.worker.signal(signal.SIGCONT)
        elif self.kind in ('hold', 'link-hold'):
            self.proxy.go_on()
        elif self.kind == 'delay':
            self.proxy.delay_s = 0
        elif self.kind == 'sleep' and self.run.proc.poll() is None:
            self.run.proc.send_signal(signal.SIGCONT)

    def end(self):
        with self.lock:
            self.over = True
        for t in self.timers:
            t.cancel()
            t.join()
        if self.run.proc.poll() is None:
            self.run.proc.send_signal(signal.SIGCONT)

    def may_fail(self):
        """May a run fail because of this?"""
        if not self.struck or self.kind in LINK_KINDS:
            return False
        if self.kind in ('delay', 'sleep', 'stop', 'hold'):
            lasts_s = 99 if self.lasts_s is None else self.lasts_s
            return lasts_s > STEP_TIMEOUT_S * SLOWER / 4
        return True


def judge(fault, code, ids, message, want):
    changed = fault.struck and fault.kind == 'change' and fault.protocol == 'rpc'
    if code == 0 and ids != want and not changed:
        raise Broken('ids are %s, undisturbed %s' % (ids, want))
    if code == 0:
        return
    if fault.kind == 'leave' and code == -signal.SIGKILL:
        return
    if code != 1:
        raise Broken('the run ends with code %s: %s' % (code, message))
    if not fault.may_fail():
        raise Broken('the run fails though nothing happened that should hurt it: ' + message)
    if not changed and fault.proxy.address not in message:
        raise Broken('the message names not %s: %s' % (fault.proxy.address, message))


def check_workers(workers, want):
    for w in workers:
        if w.killed:
            continue
        w.signal(signal.SIGCONT)
        code, ids, message = Run([w.address], '2', w.protocol).finish()
        if code != 0 or ids != want:
            raise Broken('an honest client gets code %s, %s: %s' % (code, ids, message))
        if w.protocol != 'rpc':
            w.await_empty()


def end_all(workers, proxies):
    codes = [w.end() for w in workers]
    for p in proxies:
        p.end()
    for w, code in zip(workers, codes):
        if code != (-signal.SIGKILL if w.killed else 0):
            raise Broken('a worker ends with code %s: %s' % (code, ''.join(w.said[-20:])))


def begin(n, protocol, rng, folder):
    workers = [Worker(protocol, folder) for _ in range(n)]
    proxies = [Proxy(w, rng) for w in workers]
    for w, p in zip(workers, proxies):
        w.know(w.address)
        w.know(p.address)
    return workers, proxies


def play(seed, want, traffic, folder):
    """One seed; a line about it."""
    rng = random.Random(seed)
    protocol = rng.choice(PROTOCOLS)
    workers, proxies = begin(rng.choice([1, 2]), protocol, rng, folder)
    try:
        fault = Fault(rng, proxies, traffic[protocol, len(workers)], protocol)
        if fault.early:
            fault.strike()
        fault.run = Run([p.address for p in proxies], '2' if len(workers) == 1 else '1,1', protocol)
        fault.arm()
        try:
            code, ids, message = fault.run.finish()
        finally:
            fault.end()
        about = '%s, %s%s: %s' % (protocol, fault, '' if fault.struck else ' (never)', message or 'ids')
        judge(fault, code, ids, message, want)
        check_workers(workers, want)
    except Broken as why:
        raise Broken('%s, %s: %s' % (protocol, fault, why)) from why
    finally:
        for p in proxies:
            p.go_on()
        end_all(workers, proxies)
    return about


def measure(protocol, n, want, folder):
    """Bytes that pass each proxy in an undisturbed run over n workers."""
    workers, proxies = begin(n, protocol, random.Random(0), folder)
    run = Run([p.address for p in proxies], '2' if n == 1 else '1,1', protocol)
    code, ids, message = run.finish()
    end_all(workers, proxies)
    if code != 0 or ids != want:
        raise Broken('undisturbed: code %s, %s: %s' % (code, ids, message))
    if protocol == 'own' and n == 2 and proxies[1].passed['link up'] == 0:
        raise Broken('undisturbed: no link passes the proxy')
    return [p.passed for p in proxies]


def main():
    first = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    last = int(sys.argv[2]) if len(sys.argv) > 2 else first
    code, want, message = Run([], '').finish()
    if code != 0:
        sys.exit('undisturbed: ' + message)
    with tempfile.TemporaryDirectory() as folder:
        os.environ['XDG_CONFIG_HOME'] = folder + '/config'
        os.environ['XDG_CACHE_HOME'] = folder + '/cache'
        traffic = {(p, n): measure(p, n, want, folder) for p in PROTOCOLS for n in (1, 2)}
        for seed in range(first, last + 1):
            try:
                print('seed %d: %s' % (seed, play(seed, want, traffic, folder)), flush=True)
            except Broken as why:
                print('seed %d FAILED: %s' % (seed, why))
                print('again: SHOAL=%s python3 %s %d' % (os.environ['SHOAL'], sys.argv[0], seed))
                return 1
    return 0


sys.exit(main())
