#!/usr/bin/env python3
"""What a network does: a server that echoes or swallows, and a client that measures.

    stream.py serve ADDRESS             prints its port, serves connections until it is ended
    stream.py rtt ADDRESS PORT          least of 20 round trips of one byte, in microseconds
    stream.py rate ADDRESS PORT BYTES   bits per second of that many bytes, acknowledged at the end
"""
import socket
import sys
import time

TIMEOUT_S = 60


def serve(address):
    listener = socket.create_server((address, 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        conn, _ = listener.accept()
        with conn:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            echo = conn.recv(1) == b'e'
            while True:
                data = conn.recv(1 << 20)
                if not data:
                    break
                if echo:
                    conn.sendall(data)
            if not echo:
                conn.sendall(b'.')


def connect(address, port, kind):
    conn = socket.create_connection((address, int(port)), timeout=TIMEOUT_S)
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    conn.sendall(kind)
    return conn


def rtt(address, port):
    with connect(address, port, b'e') as conn:
        best = None
        for _ in range(20):
            begin = time.perf_counter()
            conn.sendall(b'x')
            if not conn.recv(1):
                sys.exit('the server closed the connection')
            took = time.perf_counter() - begin
            best = took if best is None else min(best, took)
    print('%.0f' % (best * 1e6))


def rate(address, port, n):
    left = int(n)
    chunk = bytes(1 << 16)
    with connect(address, port, b's') as conn:
        begin = time.perf_counter()
        while left > 0:
            conn.sendall(chunk[:left])
            left -= min(left, len(chunk))
        conn.shutdown(socket.SHUT_WR)
        if conn.recv(1) != b'.':
            sys.exit('the server did not acknowledge')
        took = time.perf_counter() - begin
    print('%.0f' % (int(n) * 8 / took))


if __name__ == '__main__':
    {'serve': serve, 'rtt': rtt, 'rate': rate}[sys.argv[1]](*sys.argv[2:])
