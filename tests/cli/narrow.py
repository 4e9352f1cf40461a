#!/usr/bin/env python3
"""narrow.py PORT BYTES: a way to a worker through which its second connection gets only so far.

Prints the port that it listens on, and "full" once so many bytes of the client have passed; what
comes behind them is swallowed, until the client goes.
"""
import socket
import sys
import threading

CHUNK = 65536


def copy(source, to, most):
    left = most
    try:
        while True:
            data = source.recv(CHUNK)
            if not data:
                break
            if left is not None:
                kept, was_open = data[:left], left > 0
                left -= len(kept)
                if was_open and left == 0:
                    to.sendall(kept)
                    print('full', flush=True)
                    continue
                data = kept
            to.sendall(data)
    except OSError:
        pass
    for s in (source, to):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def main():
    listener = socket.create_server(('127.0.0.1', 0))
    print(listener.getsockname()[1], flush=True)
    count = 0
    while True:
        client, _ = listener.accept()
        count += 1
        worker = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
        most = int(sys.argv[2]) if count == 2 else None
        for arguments in ((client, worker, most), (worker, client, None)):
            threading.Thread(target=copy, args=arguments, daemon=True).start()


main()
