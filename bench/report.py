"""From values per round to a table, in plain text or as markdown."""
import stats

LOWER_IS_BETTER = ('start',)
TITLES = {'decode': 'text, tokens/s', 'prefill': 'prompt, tokens/s', 'start': 'start to first token, ms'}
SCALE = {'start': 1000.0}
SHORT = ('prefill', 'decode', 'start')
# Name, figure, row, against what, bound.  The worse end of the interval must pass.
BARS = [
    ('decode over two workers on loopback, of our unsplit', 'decode', '2 workers, loopback', 'unsplit', 0.95),
    ('unsplit decode, of llama.cpp', 'decode', 'unsplit', 'peer', 0.9),
    ('unsplit prefill, of llama.cpp', 'prefill', 'unsplit', 'peer', 0.6),
    ('start to first token unsplit, llama.cpp of shoal', 'start', 'unsplit', 'peer', 1.0),
    ('start over two workers on loopback, llama.cpp of shoal', 'start', '2 workers, loopback', 'peer', 1.0),
]


def best_of(rounds, figure):
    """The peer's values of `figure` in its better mode, and that mode."""
    modes = {}
    for values in rounds:
        for name, value in values.items():
            if name == figure or name.startswith(figure + '_fa'):
                modes.setdefault(name, []).append(value)
    if not modes:
        return None, ''
    sign = -1 if figure in LOWER_IS_BETTER else 1
    name = max(modes, key=lambda k: sign * stats.median(modes[k]))
    return name, name.rpartition('_')[2] if name != figure else ''


def values_of(rounds, name):
    return [r.get(name) for r in rounds] if name else []


def show(summary, scale=1.0):
    if not summary:
        return '-'
    median, low, high = (summary[k] * scale for k in ('median', 'low', 'high'))
    digits = 0 if median >= 100 else 1 if median >= 10 else 2
    return '%.*f (%.*f-%.*f)' % (digits, median, digits, low, digits, high)


def figures(results):
    """{figure: {row: {ours, theirs, mode, ratio, of_unsplit}}}; `results` is {row: {side: rounds}}."""
    out = {}
    for figure in TITLES:
        rows = out[figure] = {}
        alone = values_of(results.get('unsplit', {}).get('shoal', []), figure)
        for row, sides in results.items():
            ours = values_of(sides.get('shoal', []), figure)
            name, mode = best_of(sides.get('peer', []), figure)
            theirs = values_of(sides.get('peer', []), name)
            better = (theirs, ours) if figure in LOWER_IS_BETTER else (ours, theirs)
            rows[row] = {'ours': stats.summary(ours), 'theirs': stats.summary(theirs), 'mode': mode,
                         'ratio': stats.ratio(*better), 'of_unsplit': stats.ratio(ours, alone)}
        if not any(r['ours'] for r in rows.values()):
            del out[figure]
    return out


def bars(found):
    """(name, summary, bound, met) of each bar that was measured."""
    out = []
    for name, figure, row, against, bound in BARS:
        value = found.get(figure, {}).get(row, {}).get('ratio' if against == 'peer' else 'of_unsplit')
        if value:
            out.append((name, value, bound, value['low'] >= bound))
    return out


def mb(value):
    return '%.0f' % (value / 1e6) if value is not None else '-'


def memory_cells(memory):
    """Own and mapped MB of the host, and of each worker."""
    if not memory:
        return ['-', '-']
    def pair(m):
        own = m.get('RssAnon', 0) + m.get('RssShmem', 0)
        return '%s + %s' % (mb(own), mb(m.get('RssFile', 0)))
    return [pair(memory['host']), ', '.join(pair(w) for w in memory['workers']) or '-']


def tables(found, memory):
    """[(title, heads, rows)] ready to be drawn."""
    out = []
    for figure, rows in found.items():
        scale = SCALE.get(figure, 1.0)
        better = 'llama.cpp / shoal' if figure in LOWER_IS_BETTER else 'shoal / llama.cpp'
        body = []
        for row, f in rows.items():
            theirs = show(f['theirs'], scale) + (' ' + f['mode'] if f['mode'] and f['theirs'] else '')
            body.append([row, show(f['ours'], scale), theirs, show(f['ratio']), show(f['of_unsplit'])])
        out.append((TITLES[figure], ['', 'shoal', 'llama.cpp', better, 'of our unsplit'], body))
    if memory:
        body = []
        for row, sides in memory.items():
            ours, theirs = memory_cells(sides.get('shoal')), memory_cells(sides.get('peer'))
            body.append([row, ours[0], ours[1], theirs[0], theirs[1]])
        out.append(('memory at its peak, MB: own + pages of files',
                    ['', 'shoal: host', 'workers', 'llama.cpp: host', 'workers'], body))
    return out


def draw_text(title, heads, rows):
    width = [max(len(r[i]) for r in rows + [heads]) for i in range(len(heads))]
    lines = [title]
    for r in [heads] + rows:
        lines.append('  ' + '  '.join(c.ljust(w) if i == 0 else c.rjust(w)
                                     for i, (c, w) in enumerate(zip(r, width))).rstrip())
    return '\n'.join(lines)


def draw_markdown(title, heads, rows):
    lines = ['| ' + ' | '.join([title] + heads[1:]) + ' |', '|' + '---|' * len(heads)]
    lines += ['| ' + ' | '.join(r) + ' |' for r in rows]
    return '\n'.join(lines)


def facts_lines(info):
    m, o = info['machine'], info['options']
    peer = info['peer']
    lines = [
        'machine: %s (%s), %d cores, %.1f GiB, %s, %s' % (m['processor'], m['family_model'], m['cores'],
                                                        m['memory_gib'], m['kernel'], m['instructions']),
        'load average before and after: %s, %s' % (info['load_before'], info['load_after']),
        'shoal: %s, commit %s' % (info['shoal']['version'], info['shoal']['commit']),
        'model: %s, %.1f MB, %d tokens of prompt, %d of text, %d thread per process, context %d'
        % (o['model_name'], o['model_bytes'] / 1e6, o['prefill'], o['decode'], o['threads'], o['ctx']),
        'rounds: %d, in turn; medians with their %.0f %% interval; %s' % (o['rounds'], stats.LEVEL * 100, info['date']),
    ]
    if peer:
        lines.insert(3, 'llama.cpp: %s; llama-bench with -fa 0,1 (the better one counts, shown as fa0 '
                        'or fa1), -sm layer -ngl 99 with --rpc, ggml-rpc-server -t %d; start: '
                        'llama-completion --no-warmup' % ('; '.join(peer['about']) or 'a build of one\'s own',
                                                          o['threads']))
    lines.append('command: ' + info['command'])
    return lines


def text(info, found, memory):
    parts = facts_lines(info) + ['']
    for t in tables(found, memory):
        parts += [draw_text(*t), '']
    for name, value, bound, met in bars(found):
        parts.append('%s: %s: %s, bar %.2f' % ('met' if met else 'MISSED', name, show(value), bound))
    return '\n'.join(parts)


def markdown(info, found, memory):
    parts = ['- ' + line for line in facts_lines(info)[:-1]] + ['', '```', info['command'], '```', '']
    for t in tables(found, memory):
        parts += [draw_markdown(*t), '']
    for name, value, bound, met in bars(found):
        parts.append('- %s: %s: %s, bar %.2f' % ('met' if met else '**missed**', name, show(value), bound))
    return '\n'.join(parts)


def short(info, found):
    """Medians only, llama.cpp's beside them."""
    m, o = info['machine'], info['options']

    def cell(figure, row):
        f = found.get(figure, {}).get(row, {})
        parts = ['%.0f' % (f[k]['median'] * SCALE.get(figure, 1.0)) for k in ('ours', 'theirs') if f.get(k)]
        return '%s (%s)' % tuple(parts) if len(parts) == 2 else (parts or ['-'])[0]

    names = [row for row in dict.fromkeys(row for rows in found.values() for row in rows)
             if '--rpc' not in row and 'files' not in row]
    lines = ['| in brackets: llama.cpp | ' + ' | '.join(TITLES[f] for f in SHORT) + ' |', '|---|---|---|---|']
    lines += ['| %s | %s |' % (row, ' | '.join(cell(f, row) for f in SHORT)) for row in names]
    lines += ['', '%s, a prompt of %d and a text of %d tokens, %d thread per process, on %d cores of %s; medians '
              'of %d rounds, %s.' % (o['model_name'], o['prefill'], o['decode'], o['threads'], m['cores'],
                                     m['processor'], o['rounds'], info['date'])]
    return '\n'.join(lines)
