#!/usr/bin/env python3
"""Thousands of sessions with one worker, which must have the memory that it started with.

    sessions.py --shoal PROGRAM --model FILE --short N --long N [--bound KIB]

Short sessions do a few commands; of every twelve, five end in order and seven are cut, hostile, or
killed with data under way.  Long ones load weights and run graphs; half of them are programs
(`shoal run`), half of those are killed.  Four clients work side by side.

Afterwards the worker's descriptors and threads must be those that it began with, and its anonymous
memory at most KIB more: what the heap and the stacks of ended threads keep.  Without --bound
memory is not judged.
"""
import argparse
import concurrent.futures
import ctypes
import os
import random
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'cli'))
import rpc  # noqa: E402

CLIENTS = 4
PATIENCE_S = 120
LOUD = 1 << 20
PR_SET_THP_DISABLE = 41


# ---- short sessions ------------------------------------------------------------------------------

def add_graph(buffer, n, op=rpc.OP_ADD, name=b''):
    """c = a + b over n floats that lie one after the other."""
    token, base = buffer
    records = [rpc.record(i + 1, rpc.F32, token, base + 4 * n * i, (n, 1, 1, 1)) for i in range(2)]
    records.append(rpc.record(3, rpc.F32, token, base + 8 * n, (n, 1, 1, 1), op, (1, 2), name))
    return rpc.graph(records, [3])


def compute(client, n, rng):
    buffer = client.alloc(12 * n)
    data = rng.randbytes(8 * n)
    # Exponents that make no infinities, so that what comes back can be compared.
    data = bytes(b & 0x3f if i % 4 == 3 else b for i, b in enumerate(data))
    client.set(buffer, 0, data)
    client.send(rpc.GRAPH_COMPUTE, add_graph(buffer, n))
    got = struct.unpack('<%df' % n, client.get(buffer, 8 * n, 4 * n))
    a = struct.unpack('<%df' % (2 * n), data)
    for i in range(n):
        want = struct.unpack('<f', struct.pack('<f', a[i] + a[n + i]))[0]
        if got[i] != want:
            raise RuntimeError('%r + %r gave %r' % (a[i], a[n + i], got[i]))


def greets(client, rng):
    client.call(rpc.DEVICE_COUNT)
    client.close()


def moves_bytes(client, rng):
    buffer = client.alloc(65536)
    data = rng.randbytes(4000)
    client.set(buffer, 100, data)
    if client.get(buffer, 100, 4000) != data:
        raise RuntimeError('other bytes came back')
    client.close()


def computes(client, rng):
    compute(client, rng.randrange(1, 200), rng)
    client.close()


def frees(client, rng):
    for _ in range(3):
        client.send(rpc.FREE_BUFFER, struct.pack('<Q', client.alloc(rng.randrange(1, 1 << 20))[0]))
    client.call(rpc.GET_DEVICE_MEMORY, struct.pack('<I', 0))
    client.close()


def asks_too_much(client, rng):
    token, _ = struct.unpack('<QQ', client.call(rpc.ALLOC_BUFFER, struct.pack('<IQ', 0, 1 << 50)))
    if token:
        raise RuntimeError('a buffer of a petabyte')
    client.close()


def leaves_in_a_greeting(client, rng):
    client.sock.sendall(struct.pack('<BQ', rpc.HELLO, 24) + bytes(rng.randrange(24)))
    client.close()


def leaves_in_the_data(client, rng):
    token, base = client.alloc(LOUD)
    where = rpc.record(kind=rpc.I8, buffer=token, data=base, ne=(LOUD, 1, 1, 1))
    client.sock.sendall(struct.pack('<BQ', rpc.SET_TENSOR, len(where) + 9 + LOUD) + where +
                        bytes(9) + bytes(rng.randrange(LOUD // 4)))
    client.reset()


def reads_nothing(client, rng):
    token, base = client.alloc(LOUD)
    where = rpc.record(kind=rpc.I8, buffer=token, data=base, ne=(LOUD, 1, 1, 1))
    for _ in range(rng.randrange(1, 4)):
        client.send(rpc.GET_TENSOR, where + struct.pack('<QQ', 0, LOUD))
    client.reset()


def dies_while_computing(client, rng):
    n = 1 << 16
    buffer = client.alloc(12 * n)
    client.send(rpc.GRAPH_COMPUTE, add_graph(buffer, n))
    for _ in range(rng.randrange(1, 40)):
        client.send(rpc.GRAPH_RECOMPUTE, struct.pack('<I', 0))
    client.reset()


def speaks_http(client, rng):
    client.sock.sendall(b'GET / HTTP/1.1\r\n\r\n')
    client.wait_end()


def sends_a_bad_graph(client, rng):
    buffer = client.alloc(1 << 16)
    good = add_graph(buffer, 100)
    at = rng.randrange(len(good))
    client.send(rpc.GRAPH_COMPUTE, good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) +
                good[at + 1:])
    client.sock.sendall(struct.pack('<BQ', 99, 0))  # whatever the graph was, this ends it
    client.wait_end()


def sends_noise(client, rng):
    client.sock.sendall(bytes([rng.randrange(20)]) + rng.randbytes(8 + rng.randrange(600)))
    client.reset()


SHORT = [(greets, True), (speaks_http, False), (moves_bytes, True), (leaves_in_a_greeting, False),
         (computes, True), (leaves_in_the_data, True), (frees, True), (reads_nothing, True),
         (asks_too_much, True), (dies_while_computing, True), (sends_a_bad_graph, True),
         (sends_noise, True)]


def short_session(o, i):
    kind, hello = SHORT[i % len(SHORT)]
    kind(rpc.Client(o.address, hello), random.Random(i))


# ---- long sessions -------------------------------------------------------------------------------

def load_and_compute(o, i):
    """Sixteen layers of weights and as many products in a graph, run some ten times."""
    width, layers = 256, 16
    rng = random.Random(i)
    client = rpc.Client(o.address)
    weights = [client.alloc(4 * width * width) for _ in range(layers)]
    token, base = client.alloc(4 * width * (layers + 1))
    row = struct.pack('<%df' % width, *(rng.uniform(-0.1, 0.1) for _ in range(width)))
    for w in weights:
        client.set(w, 0, row * width)
    client.set((token, base), 0, row)
    records, nodes = [rpc.record(1, rpc.F32, token, base, (width, 1, 1, 1))], []
    for k, w in enumerate(weights):
        records.append(rpc.record(100 + k, rpc.F32, w[0], w[1], (width, width, 1, 1)))
        records.append(rpc.record(2 + k, rpc.F32, token, base + 4 * width * (k + 1),
                                  (width, 1, 1, 1), rpc.OP_MUL_MAT, (100 + k, 1 + k)))
        nodes.append(2 + k)
    client.send(rpc.GRAPH_COMPUTE, rpc.graph(records, nodes))
    first = client.get((token, base), 4 * width * layers, 4 * width)
    for _ in range(10):
        client.send(rpc.GRAPH_RECOMPUTE, struct.pack('<I', 0))
        if client.get((token, base), 4 * width * layers, 4 * width) != first:
            raise RuntimeError('the same graph gave something else')
    if i % 4 == 1:
        client.send(rpc.GRAPH_RECOMPUTE, struct.pack('<I', 0))
        client.reset()
    else:
        client.close()


def run_program(o, i):
    dies = i % 4 == 2
    argv = [o.shoal, 'run', '-m', o.model, '-p', 'The cat', '--temp', '0', '--no-perf', '-n',
            '100000' if dies else '12', '-c', '200000' if dies else '64', '--rpc', o.address]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as program:
        if dies:
            program.stdout.read(1)  # tokens come
            program.kill()
        _, err = program.communicate(timeout=PATIENCE_S)
        if not dies and program.returncode != 0:
            raise RuntimeError('%s: %s' % (' '.join(argv), err.decode(errors='replace')))


def long_session(o, i):
    if i % 2:
        load_and_compute(o, i)
    else:
        run_program(o, i)


def run_all(o, session, n):
    """After each hundred sessions an honest one."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=CLIENTS) as pool:
        for at in range(0, n, 100):
            some = range(at, min(at + 100, n))
            for future in [pool.submit(session, o, i) for i in some]:
                future.result()
            client = rpc.Client(o.address)
            compute(client, 100, random.Random(at))
            client.close()


# ---- what the worker has -------------------------------------------------------------------------

def look(pid):
    """(anonymous KiB, descriptors, threads)"""
    with open('/proc/%d/smaps_rollup' % pid, encoding='ascii') as f:
        kib = next(int(line.split()[1]) for line in f if line.startswith('Anonymous:'))
    return (kib, len(os.listdir('/proc/%d/fd' % pid)), len(os.listdir('/proc/%d/task' % pid)))


def settle(o, idle):
    """What the worker has when no session is left: its descriptors and threads tell."""
    end = time.monotonic() + PATIENCE_S
    while True:
        rpc.Client(o.address).close()  # with a new one comes the end of those before it
        have = look(o.pid)
        if have[1:] == idle[1:]:
            return have
        if time.monotonic() > end:
            sys.exit('%d descriptors and %d threads do not go back to %d and %d' %
                     (have[1], have[2], idle[1], idle[2]))
        time.sleep(0.05)


def without_huge_pages():
    """Where the kernel gives out 2 MiB at a time, a single byte counts as many."""
    ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)


def soak(o):
    idle = look(o.pid)
    print('at first: %d KiB, %d descriptors, %d threads' % idle)
    for what, session, n in (('short', short_session, o.short), ('long', long_session, o.long)):
        start = time.monotonic()
        run_all(o, session, n)
        have = settle(o, idle)
        print('after %d %s sessions (%.1f s): %d KiB' % (n, what, time.monotonic() - start,
                                                        have[0]), flush=True)
        if o.bound is not None and have[0] - idle[0] > o.bound:
            sys.exit('the worker has %d KiB more than at first, and %d are allowed' %
                     (have[0] - idle[0], o.bound))


def main():
    parser = argparse.ArgumentParser()
    for name in ('--shoal', '--model'):
        parser.add_argument(name, required=True)
    for name in ('--short', '--long'):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument('--bound', type=int, metavar='KIB')
    o = parser.parse_args()
    argv = [o.shoal, 'worker', '--listen', '127.0.0.1:0', '-t', '2', '--memory', '1G',
            '--log-level', 'error']
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          preexec_fn=without_huge_pages) as worker:
        try:
            o.pid = worker.pid
            o.address = worker.stdout.readline().decode().split()[-1]
            soak(o)
            worker.terminate()
            worker.wait(PATIENCE_S)
        finally:
            worker.kill()
    if worker.returncode != 0:
        sys.exit('the worker ended with code %d' % worker.returncode)


main()
