#!/usr/bin/env python3
"""A client whose graph runs for minutes: prints "running" once it does, "closed" when the worker
ended the connection."""
import struct
import sys

import rpc

N = 1 << 22
NODES = 16000

client = rpc.Client(sys.argv[1])
token, base = client.alloc(8 * N)
at = [base, base + 4 * N]
records = [rpc.record(1, rpc.F32, token, at[0], (N, 1, 1, 1))]
records += [rpc.record(i, rpc.F32, token, at[i % 2], (N, 1, 1, 1), rpc.OP_ADD, (i - 1, i - 1))
            for i in range(2, NODES + 2)]
client.send(rpc.GRAPH_COMPUTE, rpc.graph(records, list(range(2, NODES + 2))))
client.call(rpc.DEVICE_COUNT)  # answered at once: so the graph was taken
print('running', flush=True)
try:
    client.get((token, base), 0, 4)
    sys.exit('the graph ended')
except ConnectionError:
    print('closed', flush=True)
