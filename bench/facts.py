"""What a figure cannot stand without: machine, program, model, peer."""
import os
import platform
import subprocess


def first_line(argv):
    try:
        out = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                             check=False).stdout
    except OSError:
        return ''
    return out.strip().splitlines()[0] if out.strip() else ''


def field_of(path, name):
    try:
        with open(path, encoding='utf-8', errors='replace') as f:
            for line in f:
                key, _, value = line.partition(':')
                if key.strip() == name:
                    return value.strip()
    except OSError:
        pass
    return ''


def flags_of(path):
    """The vector instruction sets that matter here."""
    known = ('avx2', 'fma', 'f16c', 'avx512f', 'avx512bw', 'avx512vl', 'avx512_vnni', 'avx_vnni', 'asimd',
             'asimddp', 'i8mm')
    have = (field_of(path, 'flags') or field_of(path, 'Features')).split()
    return ' '.join(f for f in known if f in have)


def machine():
    memory = field_of('/proc/meminfo', 'MemTotal').split()
    return {
        'processor': field_of('/proc/cpuinfo', 'model name') or platform.machine(),
        'family_model': '%s/%s' % (field_of('/proc/cpuinfo', 'cpu family') or '?',
                                   field_of('/proc/cpuinfo', 'model') or '?'),
        'instructions': flags_of('/proc/cpuinfo'),
        'cores': len(os.sched_getaffinity(0)),
        'memory_gib': round(int(memory[0]) / 1048576, 1) if memory else 0,
        'kernel': '%s %s' % (platform.system(), platform.release()),
    }


def shoal(program, root):
    commit = first_line(['git', '-C', root, 'rev-parse', '--short=12', 'HEAD'])
    changed = first_line(['git', '-C', root, 'status', '--porcelain', '-uno', '--', 'src', 'mk', 'Makefile'])
    return {'version': first_line([program, 'version']) or first_line([program, '--version']),
            'commit': commit + (' with changes' if changed else '')}


def peer(folder):
    about = []
    try:
        with open(os.path.join(folder, 'about'), encoding='utf-8') as f:
            about = f.read().splitlines()
    except OSError:
        pass
    return {'about': about}


def load():
    return [round(v, 2) for v in os.getloadavg()]
