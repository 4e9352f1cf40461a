#!/usr/bin/env python3
"""Visitors of a worker's door who are no hosts.

    door.py crowd ADDRESS N    N connections that stay silent, and as many that send one byte;
                               prints "there" and keeps them until stdin ends
    door.py skew ADDRESS       greets in a revision of the protocol that nobody has, and prints
                               what is answered
"""
import socket
import struct
import sys

PATIENCE_S = 60
PREFACE = b'shoal\r\n\x01'
HELLO, ERROR = 1, 3


def connect(address):
    host, port = address.rsplit(':', 1)
    return socket.create_connection((host, int(port)), PATIENCE_S)


def crowd(address, n):
    visitors = [connect(address) for _ in range(n)]
    for _ in range(n):
        visitors.append(connect(address))
        try:
            visitors[-1].sendall(b'\x16')
        except OSError:
            pass  # it had to give way already
    print('there', flush=True)
    sys.stdin.read()
    for v in visitors:
        v.close()


def receive(sock, n):
    data = b''
    while len(data) < n:
        got = sock.recv(n - len(data))
        if not got:
            sys.exit('the worker closed the connection after %d bytes' % len(data))
        data += got
    return data


def skew(address):
    software = b'shoal 9.9.9'
    hello = struct.pack('<HHQBH', 9, 12, 0, 0, len(software)) + software + bytes(16) + bytes(4)
    with connect(address) as sock:
        sock.sendall(PREFACE + struct.pack('<IHHII', len(hello), HELLO, 0, 1, 0) + hello)
        length, number, _, request, _ = struct.unpack('<IHHII', receive(sock, 16))
        payload = receive(sock, length)
        if (number, request) != (ERROR, 1):
            sys.exit('message %d for request %d' % (number, request))
        print(payload[23:].decode())
        if sock.recv(1):
            sys.exit('there is more')


if sys.argv[1] == 'crowd':
    crowd(sys.argv[2], int(sys.argv[3]))
else:
    skew(sys.argv[2])
