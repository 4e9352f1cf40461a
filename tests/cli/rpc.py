"""A client of llama.cpp's RPC protocol (major 7) in a few lines, for tests of a worker."""
import socket
import struct

ALLOC_BUFFER, GET_ALIGNMENT, GET_MAX_SIZE, BUFFER_GET_BASE, FREE_BUFFER, BUFFER_CLEAR = range(6)
SET_TENSOR, SET_TENSOR_HASH, GET_TENSOR, COPY_TENSOR, GRAPH_COMPUTE, GET_DEVICE_MEMORY = range(6, 12)
INIT_TENSOR, GET_ALLOC_SIZE, HELLO, DEVICE_COUNT, GRAPH_RECOMPUTE, MEMSET_TENSOR = range(12, 18)
OP_NONE, OP_ADD, OP_MUL_MAT = 0, 2, 29
F32, I8 = 0, 24
COMPUTE = 16  # the flag of a node
PATIENCE_S = 60


def record(ident=1, kind=F32, buffer=0, data=0, ne=(1, 1, 1, 1), op=OP_NONE, src=(), name=b''):
    """A dense tensor as it lies on the wire."""
    size = 4 if kind == F32 else 1
    nb = [size, size * ne[0], size * ne[0] * ne[1], size * ne[0] * ne[1] * ne[2]]
    return struct.pack('<QIQ4I4II16iI10QQQQ64si', ident, kind, buffer, *ne, *nb, op, *([0] * 16),
                       COMPUTE if op else 0, *(list(src) + [0] * (10 - len(src))), 0, 0, data,
                       name, 0)


def graph(records, nodes):
    return (struct.pack('<II', 0, len(nodes)) + struct.pack('<%dQ' % len(nodes), *nodes) +
            struct.pack('<I', len(records)) + b''.join(records))


class Client:
    """One session.  Whatever the worker does not answer in time is an exception."""

    def __init__(self, address, hello=True):
        host, port = address.rsplit(':', 1)
        self.sock = socket.create_connection((host.strip('[]'), int(port)), PATIENCE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hello:
            answer = self.call(HELLO, bytes(24))
            if answer[0] != 7:
                raise RuntimeError('the worker speaks major %d' % answer[0])

    def send(self, command, payload=b''):
        self.sock.sendall(struct.pack('<BQ', command, len(payload)) + payload)

    def receive(self, n):
        data = b''
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            if not more:
                raise ConnectionError('the worker closed')
            data += more
        return data

    def call(self, command, payload=b''):
        self.send(command, payload)
        return self.receive(struct.unpack('<Q', self.receive(8))[0])

    def close(self):
        self.sock.close()

    def reset(self):
        """End as a process does that is killed with data under way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def wait_end(self):
        """Until the worker has closed."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        self.sock.close()

    def alloc(self, size):
        """(token, base)"""
        token, got = struct.unpack('<QQ', self.call(ALLOC_BUFFER, struct.pack('<IQ', 0, size)))
        if not token or got < size:
            raise MemoryError('no buffer of %d bytes' % size)
        return token, struct.unpack('<Q', self.call(BUFFER_GET_BASE, struct.pack('<Q', token)))[0]

    def set(self, buffer, offset, data):
        token, base = buffer
        where = record(kind=I8, buffer=token, data=base + offset, ne=(len(data), 1, 1, 1))
        self.send(SET_TENSOR, where + b'\0' + struct.pack('<Q', 0) + data)

    def get(self, buffer, offset, n):
        token, base = buffer
        where = record(kind=I8, buffer=token, data=base + offset, ne=(n, 1, 1, 1))
        return self.call(GET_TENSOR, where + struct.pack('<QQ', 0, n))
