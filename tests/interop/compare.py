#!/usr/bin/env python3
"""Compare what two implementations made of the same input; exit code 1 if they differ too much.

    compare.py text LOCAL OTHER N WHAT [LEAST]
                                               lines "id margin": N equal ids, or equal up to the
                                               first that LOCAL chose by less than LEAST (0.15)
    compare.py logits HAVE GOLDEN BOUND WHAT   files of f32: sum (a-b)^2 / sum b^2 at most BOUND
    compare.py margins LOGITS FIRST IDS        lines "id margin" of greedy ids, from the f32 logits
                                               of prompt and ids; FIRST is the row before IDS
"""
import array
import math
import sys

LEAST_MARGIN = 0.15


def read_text(path):
    with open(path, encoding='ascii') as f:
        rows = [line.split() for line in f]
    return [int(r[0]) for r in rows], [float(r[1]) for r in rows]


def read_f32(path):
    numbers = array.array('f')
    with open(path, 'rb') as f:
        numbers.frombytes(f.read())
    if sys.byteorder != 'little':
        numbers.byteswap()
    return numbers


def compare_text(local, other, n, what, least=LEAST_MARGIN):
    want, margins = read_text(local)
    have, _ = read_text(other)
    n = int(n)
    if len(want) != n or len(have) != n:
        sys.exit('%s: %d and %d ids, not %d' % (what, len(want), len(have), n))
    small = next((i for i in range(n) if margins[i] < float(least)), n)
    same = next((i for i in range(n) if want[i] != have[i]), n)
    print('%s: %d of %d ids are the same, the first small margin is at %d' % (what, same, n, small))
    if same < small:
        sys.exit('%s: id %d is %d, not %d (margin %.3f)'
                 % (what, same, have[same], want[same], margins[same]))


def compare_logits(have, golden, bound, what):
    a, b = read_f32(have), read_f32(golden)
    error = math.inf
    if len(a) == len(b) and len(b):
        scale = sum(y * y for y in b)
        error = sum((x - y) * (x - y) for x, y in zip(a, b)) / scale if scale else math.inf
    print('%s: %d and %d numbers, NMSE %.3g, at most %s' % (what, len(a), len(b), error, bound))
    if not error <= float(bound):
        sys.exit(1)


def print_margins(logits, first, ids):
    numbers = read_f32(logits)
    ids = [int(i) for i in ids.split(',')]
    first = int(first)
    width = len(numbers) // (first + len(ids) + 1)
    for i, chosen in enumerate(ids):
        row = numbers[(first + i) * width:(first + i + 1) * width]
        others = max(max(row[:chosen], default=-math.inf), max(row[chosen + 1:], default=-math.inf))
        print('%d %.4f' % (chosen, row[chosen] - others))


if __name__ == '__main__':
    {'text': compare_text, 'logits': compare_logits, 'margins': print_margins}[sys.argv[1]](*sys.argv[2:])
