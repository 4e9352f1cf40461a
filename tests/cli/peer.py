#!/usr/bin/env python3
"""A server that is no worker, for tests of what a client makes of it.

    peer.py silent|garbage|closes|major|llama|newer

Listens on a free port of 127.0.0.1 and prints it; then prints "client" for each connection:
    silent   reads everything, answers nothing
    garbage  answers whatever comes with seeded random bytes
    closes   closes each connection at once
    major    answers the first command as an RPC server of major 9 would
    llama    the same with major 7, and closes on what is none of its commands
    newer    greets as a worker that speaks another revision of shoal's protocol
Runs until it is killed.
"""
import random
import select
import socket
import struct
import sys


def serve(mode, sock, rng):
    try:
        data = sock.recv(65536)
        if not data:
            return False
        if mode == 'garbage':
            sock.sendall(bytes(rng.randrange(256) for _ in range(4096)))
        if mode == 'llama' and data[0] != 14:
            return False
        if mode in ('major', 'llama'):  # size of the answer, major, minor, patch, 0, capabilities
            major = 9 if mode == 'major' else 7
            sock.sendall(struct.pack('<Q', 28) + bytes([major, 0, 0, 0] + [0] * 24))
        if mode == 'newer':  # WELCOME to request 1: revision 9, no features, no ops
            welcome = struct.pack('<HQH', 9, 0, 11) + b'shoal 9.9.9' + bytes(16 + 16 + 4)
            sock.sendall(struct.pack('<IHHII', len(welcome), 2, 0, 1, 0) + welcome)
    except OSError:
        return False
    return True


def main():
    mode = sys.argv[1]
    rng = random.Random(7)
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        listener.listen(16)
        print(listener.getsockname()[1], flush=True)
        clients = []
        while True:
            ready, _, _ = select.select([listener] + clients, [], [])
            if listener in ready:
                sock, _ = listener.accept()
                print('client', flush=True)
                if mode == 'closes':
                    sock.close()
                else:
                    clients.append(sock)
            for sock in [c for c in clients if c in ready]:
                if not serve(mode, sock, rng):
                    sock.close()
                    clients.remove(sock)


main()
