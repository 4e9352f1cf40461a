#!/usr/bin/env python3
"""Sessions of many kinds with one worker, and what its log must say of each.

    log.py use ADDRESS          three sessions that must be told apart; prints their ports
    log.py flood ADDRESS N      N sessions that break the protocol at once
    log.py check FILE EXPR      every line of FILE is a JSON object with the common members; the
                                expression over `lines` (a list of dicts) must be true
"""
import json
import re
import struct
import sys

import rpc

LEVELS = ('error', 'warn', 'info', 'debug', 'trace')
HOSTILE = b'a"b\\c\n\x1b[2J\xff\xc3\xc2\x9b\x7f'
# The same as a program reads it; messages of failures have their control bytes as '?' already.
READ = 'a"b\\c??[2J\ufffd\ufffd\x9b?'


def use(address):
    # One that works: 3 MB of buffers at most, two graphs, one of them again.
    good = rpc.Client(address)
    first = good.alloc(2000000)
    good.alloc(1000000)
    good.send(rpc.FREE_BUFFER, struct.pack('<Q', first[0]))
    token, base = good.alloc(500000)
    good.set((token, base), 0, struct.pack('<8f', *range(8)))
    add = [rpc.record(i + 1, rpc.F32, token, base + 16 * i, (4, 1, 1, 1)) for i in range(2)]
    add.append(rpc.record(3, rpc.F32, token, base + 32, (4, 1, 1, 1), rpc.OP_ADD, (1, 2)))
    good.send(rpc.GRAPH_COMPUTE, rpc.graph(add, [3]))
    good.send(rpc.GRAPH_RECOMPUTE, struct.pack('<I', 0))
    assert struct.unpack('<4f', good.get((token, base), 32, 16)) == (4, 6, 8, 10)
    good_port = good.sock.getsockname()[1]
    good.close()
    # One that sends a graph whose tensor has a name for terminals and parsers.
    bad = rpc.Client(address)
    bad.alloc(1000)
    bad_port = bad.sock.getsockname()[1]
    bad.send(rpc.GRAPH_COMPUTE, rpc.graph([rpc.record(5, 77, op=rpc.OP_ADD, name=HOSTILE)], [5]))
    bad.wait_end()
    # One that does not know the protocol.
    lost = rpc.Client(address, hello=False)
    lost_port = lost.sock.getsockname()[1]
    lost.sock.sendall(b'\x00')
    lost.wait_end()
    print(good_port, bad_port, lost_port)


def flood(address, n):
    for _ in range(n):
        client = rpc.Client(address, hello=False)
        client.sock.sendall(b'\x0e' + b'\xff' * 8)
        client.wait_end()


def check(path, expression):
    lines = []
    with open(path, 'rb') as f:
        for raw in f.read().split(b'\n')[:-1]:
            if not all(0x20 <= c != 0x7f for c in raw):
                sys.exit('control characters in %r' % raw)
            line = json.loads(raw.decode('utf-8'))
            if not (re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z', line['time']) and
                    line['level'] in LEVELS and isinstance(line['part'], str) and
                    isinstance(line['message'], str)):
                sys.exit('not as it should be: %r' % raw)
            lines.append(line)
    if not eval('(%s)' % expression):  # the tests' own expressions
        sys.exit('not true: %s\n%s' % (expression, '\n'.join(map(str, lines))))


if sys.argv[1] == 'use':
    use(sys.argv[2])
elif sys.argv[1] == 'flood':
    flood(sys.argv[2], int(sys.argv[3]))
else:
    check(sys.argv[2], sys.argv[3])
