#!/usr/bin/env python3
"""Write the parts of docs/protocol.md that come from the sources.

    scripts/protocol_doc.py            rewrite them
    scripts/protocol_doc.py --check    say whether they are up to date; exit 1 if not

Between the lines <!-- from the sources: begin --> and <!-- from the sources: end --> stand the
numbers of include/shoal/status.h and the features, limits, records and messages of
src/rpc/messages.h, and the ops of src/tensor/ops.h.
"""
import re
import sys

DOC = 'docs/protocol.md'
BEGIN, END = '<!-- from the sources: begin -->\n', '<!-- from the sources: end -->\n'
WHO = {'C': 'client', 'S': 'server', 'B': 'both'}
LIMITS = {}


def read(path):
    with open(path, encoding='utf-8') as f:
        return f.read()


def die(what):
    sys.exit('protocol_doc: ' + what)


def number(text):
    """A limit as a number: 64, or the name of one of the macros."""
    return int(LIMITS.get(text, text))


def read_limits(source):
    for name, a, b in re.findall(r'#define (SH_RPC_\w+) \(?(\d+)u?(?: << (\d+))?\)?', source):
        LIMITS[name] = int(a) << int(b or 0)


def field_lists(source):
    """{NAME: (comment before, [(kind, name, record, max, since, comment)])} of all *_FIELDS."""
    lists = {}
    pattern = re.compile(r'(?:/\* ([^*\n]*) \*/\n)?#define SH_RPC_(\w+)_FIELDS\(F\)[ \t]*\\\n'
                         r'((?:[ \t]+F\(.*\\\n)*[ \t]+F\(.*\n)')
    field = re.compile(r'[ \t]+F\((\w+),\s*(\w+),\s*(\w+),\s*(\w+),\s*(\d+)\)\s*(?:/\* (.*?) \*/)?')
    for m in pattern.finditer(source):
        rows = [field.match(line).groups('') for line in m.group(3).split('\n') if line]
        note = m.group(1) or ''
        lists[m.group(2)] = ('' if note.startswith('----') else note, rows)
    if len(lists) != len(re.findall(r'#define SH_RPC_\w+_FIELDS\(F\)', source)):
        die('some list of fields of src/rpc/messages.h was not understood')
    return lists


def describe(kind, record, most):
    if kind == 'LIST':
        return 'LIST of %s, at most %d' % (record, number(most))
    if kind in ('TEXT', 'BYTES'):
        return '%s, at most %d' % (kind, number(most))
    return kind


def block(rows):
    """Fields as lines in columns."""
    out = ['```']
    names = max(len(r[1]) for r in rows)
    kinds = max(len(describe(r[0], r[2], r[3])) for r in rows)
    for kind, name, record, most, since, note in rows:
        if since != '1':
            note = (note + '; ' if note else '') + 'since revision ' + since
        line = '%-*s  %-*s  %s' % (names, name, kinds, describe(kind, record, most), note)
        out.append(line.rstrip())
    return out + ['```', '']


def sentence(text):
    return text if not text or text.endswith('.') else text + '.'


def statuses():
    out = ['## 10. Numbers', '', 'Status (ERROR, RESULT, HIDDEN, CANCELLED):', '',
           '| number | name | meaning |', '|---|---|---|']
    for name, value, text in re.findall(r'X\((\w+), (-?\d+), "([^"]*)"\)',
                                        read('include/shoal/status.h')):
        out.append('| %d | %s | %s |' % (-int(value), name, text))
    return out + ['', 'A number that is not in the list reads as ERR_PEER.', '']


def features(source):
    out = ['Features:', '', '| bit | name | what both can do |', '|---|---|---|']
    body = re.search(r'enum sh_rpc_feature \{(.*?)\};', source, re.DOTALL).group(1)
    for name, bit, text in re.findall(r'SH_RPC_(\w+) = 1 << (\d+),? *(?:/\* (.*?) \*/)', body):
        out.append('| %s | %s | %s |' % (bit, name, text))
    return out + ['']


def limits():
    out = ['Limits of revision %d:' % number('SH_RPC_REVISION'), '', '| bytes | of what |', '|---|---|']
    for name, text in (('SH_RPC_FRAME_MAX', 'a payload; a graph'),
                       ('SH_RPC_CHUNK_MAX', 'data in PUT, HIDDEN, LOGITS, SUM, PROBE, PROBED'),
                       ('SH_RPC_GREETING_MAX', 'HELLO or WELCOME with its head'),
                       ('SH_RPC_DECODED_MAX', 'lists of one message in the reader\'s memory')):
        out.append('| %d | %s |' % (number(name), text))
    return out + ['']


def ops():
    out = ['Ops of graphs, by name, with how many sources each has. What they compute, and what their '
           'parameter words are, is in `src/tensor/ops.h`;', 'those below EMBED are shoal\'s own.', '']
    words = []
    for name, low, high in re.findall(r'X\((\w+),\s*-?\d+,\s*(\d+),\s*(\d+),', read('src/tensor/ops.h')):
        if name != 'NONE':
            words.append('%s %s' % (name, low if low == high else low + ' to ' + high))
    return out + [', '.join(words[i:i + 8]) + (',' if i + 8 < len(words) else '.')
                  for i in range(0, len(words), 8)] + ['']


def messages(source, lists):
    rows = re.findall(r'X\((\d+),\s*(\w+),\s*(\w+),\s*([CSB]),\s*(\d+),\s*(\d+)\)', source)
    by_number = {int(r[0]): r for r in rows}
    out = ['## 11. Messages', '', 'Number, name, who may send it, answer. Numbers that are not here are '
           'not messages.', '']
    for num, _, name, who, answer, since in rows:
        if name not in lists:
            die('message %s has no fields' % name)
        note, fields = lists[name]
        head = '**%s %s** · %s' % (num, name, WHO[who])
        if answer != '0':
            head += ' · answered by %s' % by_number[int(answer)][2]
        if since != '1':
            head += ' · since revision %s' % since
        out += [head + ('. ' + sentence(note) if note else ''), ''] + block(fields)
    return out


def records(source, lists):
    out = ['## 12. Records', '', 'What lists consist of.', '']
    for name, upper in re.findall(r'X\((\w+),\s*SH_RPC_(\w+)_FIELDS\)', source):
        note, fields = lists[upper]
        out += ['**%s**%s' % (name, ' · ' + sentence(note) if note else ''), ''] + block(fields)
    return out


def main():
    source = read('src/rpc/messages.h')
    read_limits(source)
    lists = field_lists(source)
    lines = statuses() + features(source) + limits() + ops() + messages(source, lists) + \
        records(source, lists)
    made = '\n'.join(lines).rstrip('\n') + '\n'
    doc = read(DOC)
    if doc.count(BEGIN) != 1 or doc.count(END) != 1:
        die('%s must have one line "%s" and one "%s"' % (DOC, BEGIN.strip(), END.strip()))
    begin, end = doc.index(BEGIN) + len(BEGIN), doc.index(END)
    if sys.argv[1:] == ['--check']:
        if doc[begin:end] != '\n' + made + '\n':
            die('%s is not up to date: run scripts/protocol_doc.py' % DOC)
    elif sys.argv[1:]:
        die('the only option is --check')
    else:
        with open(DOC, 'w', encoding='utf-8') as f:
            f.write(doc[:begin] + '\n' + made + '\n' + doc[end:])


if __name__ == '__main__':
    main()
