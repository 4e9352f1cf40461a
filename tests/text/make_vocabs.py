#!/usr/bin/env python3
"""Make the vocabularies and cases of tests/text/data.  Run by hand; the result is committed.

    make_vocabs.py mini            mini-bpe.vocab, mini-spm.vocab   (tokenizers, sentencepiece)
    make_vocabs.py pretok SPEC     pretok.cases                     (regex)
    make_vocabs.py public DIR      gpt-2.vocab, phi-3.vocab         (gguf)

The packages in brackets, from PyPI, are the independent implementations that expected results
come from; `public` only rewrites files and cases found in DIR (see fetch_vocabs.sh).  SPEC lists
the patterns as the models' authors wrote them: a "group NAME" line, one pattern per line.

A .vocab file is text; strings have \\n \\r \\t \\\\ and \\xHH escapes:
    model NAME | pre NAME | name NAME | role KEY ID | add_bos 0|1 | add_eos 0|1 | add_space 0|1
    tokens N        then N lines "TYPE SCORE TEXT"; SCORE "-" is one less than the line before
    merges N FIRST  then N lines "LEFT RIGHT", best first; FIRST >= 0: merge i makes token FIRST+i
                    (those tokens are not listed; listed ones have the other ids, in order)
    cases N         then N lines "ADD PARSE TEXT<tab>IDS"
"""
import os
import random
import sys

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')

CORPUS = '''
The quick brown fox jumps over the lazy dog, and the dog doesn't care. One machine, two machines,
many machines: each takes some layers of the model and hands the hidden state to the next one.
We'll see that it's faster, they've said, but I'm not so sure; you'd better measure it yourself.
In 2024 there were 1234567 tokens in 89 files; 3.14159 is not 2.71828. x = y + 42 * (z - 7) / 9;
for (int i = 0; i < n; i++) { sum += a[i] * b[i]; }    // a comment    with    spaces
def main(args):\n\treturn [x for x in args if x != "no"]\n\nif __name__ == "__main__":\n\tmain([])\n
Die Straße führt über den Fluß nach Köln, wo größere Häuser stehen. Ça va très bien, garçon, l'été.
El niño comió mañana por la mañana. Привет, мир! Как дела сегодня? Всё хорошо, спасибо большое.
東京の夜は明るい。私たちは机の上に本を置きました。你好,世界!今天的天气很好。한국어 문장도 있습니다.
नमस्ते दुनिया। שלום עולם. مرحبا بالعالم. Γειά σου Κόσμε. Xin chào thế giới. 🙂 🚀 👩‍🚀 🇩🇪 ✓ → ∑ ½
'''

PIECES = ['the', ' the', ' quick', ' brown', 'Fox', 'JUMPS', "'s", "'LL", "'re", "don't", 'can’t', ' ', '  ',
          '   ', '\t', '\n', '\n\n', '\r\n', ' \n', '\n ', '      x', '1', '12', '123', '1234', '12345678', '3.14',
          ' 42', '½', '²', '١٢٣', '!', '!!', '...', ' ?!', '<', '</tag>', '(a)', '[0]', '{}', '#include', '"q"',
          'x=y', 'a_b', '$5', '€', 'Straße', 'ÉCOLE', 'école', ' Привет', 'МИР', 'мир', '東京', 'の', '夜', '你好', '世界',
          '한국어', '문장', 'नमस्ते', 'हिन्दी', 'שלום', 'مرحبا', 'Κόσμε', '🙂', '🚀', '👩‍🚀', '🇩🇪', '→', '∑', 'é',
          'ﬁ', '。', '、', '“q”', '—', '\u00a0', '\u3000', '\u200b', 'A', 'Ab', 'aB', 'ABc', 'helloWorld', 'ǅ', 'ʰ', '々',
          '﷽', '\u0301', 'x\u0301y', '＄', 'ｱ', 'ไทย', 'ລາວ', 'ខ្មែរ', '/', '//', '/\n', '-\n', '.\r\n', ' /']

HAND = ['', ' ', '  ', '\n', '\t', 'a', ' a', 'a ', ' a ', 'Hello world', 'Hello  world', "I'M we'LL they'd",
        '\n \n\n \n\n\n \t\t\n\ttext', '1234567890', '1 12 123 1234 12345', 'été ÉTÉ', 'x' * 100, ' ' * 100,
        'ab' * 50, '=' * 33, '🚀' * 12, 'end\n', '\r\n\r\n', '(int)(x)', 'foo.bar()', 'The dog.The dog . The dog']


def random_texts(seed, n):
    rng = random.Random(seed)
    return [''.join(rng.choice(PIECES) for _ in range(rng.randint(1, 24))) for _ in range(n)]


def escape(s):
    """str or bytes to one line of text without blanks at its ends."""
    if isinstance(s, bytes):
        s = s.decode('utf-8', 'surrogateescape')
    out = ''
    for c in s:
        if c in '\n\r\t\\':
            out += {'\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\'}[c]
        elif 0xDC80 <= ord(c) <= 0xDCFF:
            out += '\\x%02X' % (ord(c) - 0xDC00)
        elif ord(c) < 0x20 or c in '\x7f\x85\u2028\u2029\ufeff':
            out += ''.join('\\x%02X' % b for b in c.encode())
        else:
            out += c
    if out[:1] == ' ':
        out = '\\x20' + out[1:]
    if out[-1:] == ' ':
        out = out[:-1] + '\\x20'
    return out


def write(name, head, tokens, merges, first, cases):
    """tokens: (type, score or None, text) of all ids; those that merges define are left out."""
    with open(os.path.join(HERE, name), 'w', encoding='utf-8', newline='\n') as f:
        for line in head:
            print(line, file=f)
        rest = [t for i, t in enumerate(tokens) if first < 0 or not first <= i < first + len(merges)]
        print('tokens %d' % len(rest), file=f)
        before = 0.0
        for kind, score, text in rest:
            s = '0' if score is None else '-' if score == before - 1 else repr(score)
            before = score or 0.0
            print(kind, s, escape(text), file=f)
        if merges:
            print('merges %d %d' % (len(merges), first), file=f)
            for m in merges:
                print(m, file=f)
        print('cases %d' % len(cases), file=f)
        for add, parse, text, ids in cases:
            print('%d %d %s\t%s' % (add, parse, escape(text), ' '.join(map(str, ids))), file=f)


# ---- small vocabularies, trained here ----------------------------------------------------------

NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6


def mini_bpe():
    from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
               r"|\s*[\r\n]+|\s+(?!\S)|\s+")
    special = ['<|im_start|>', '<|im_end|>', '<|endoftext|>']
    user = ['<think>', '<think>!', '    ']

    def blank():
        t = Tokenizer(models.BPE())
        t.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(pattern), 'isolated'),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        return t
    t = blank()
    # tokenizers writes the alphabet in the order of its code points, merges after it.
    t.train_from_iterator([CORPUS] * 3, trainers.BpeTrainer(
        vocab_size=1100, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    import json
    model = json.loads(t.to_str())['model']
    merges = [m if isinstance(m, str) else ' '.join(m) for m in model['merges']]
    words = sorted(model['vocab'], key=model['vocab'].get)
    assert [m.replace(' ', '') for m in merges] == words[256:]
    plain = t
    plain.add_tokens([AddedToken(u, normalized=False) for u in user])
    full = Tokenizer.from_str(plain.to_str())
    full.add_special_tokens([AddedToken(s, normalized=False) for s in special])
    tokens = [(NORMAL, None, w) for w in words]
    tokens += [(USER, None, u) for u in user] + [(CONTROL, None, s) for s in special]
    bos = len(tokens) - 3
    texts = HAND + random_texts(1, 220)
    rng = random.Random(2)
    mixed = [''.join(rng.choice(PIECES + special * 12 + user * 12) for _ in range(rng.randint(1, 16)))
             for _ in range(120)]
    cases = [(0, 0, x, plain.encode(x).ids) for x in texts]
    cases += [(0, 1, x, full.encode(x).ids) for x in mixed]
    cases += [(0, 0, x, plain.encode(x).ids) for x in mixed]
    cases += [(1, 1, x, [bos] + full.encode(x).ids) for x in mixed[:20]]
    head = ['model gpt2', 'pre qwen2', 'role bos_token_id %d' % bos, 'role eos_token_id %d' % (bos + 1), 'add_bos 1']
    write('mini-bpe.vocab', head, tokens, merges, 256, cases)


def mini_spm():
    import sentencepiece as spm
    import tempfile
    with tempfile.TemporaryDirectory() as d:
        with open(d + '/corpus', 'w', encoding='utf-8') as f:
            f.write(CORPUS * 2)
        spm.SentencePieceTrainer.train(
            input=d + '/corpus', model_prefix=d + '/m', vocab_size=900, model_type='bpe', byte_fallback=True,
            normalization_rule_name='identity', remove_extra_whitespaces=False, add_dummy_prefix=True,
            split_digits=True, character_coverage=0.98, user_defined_symbols=['<think>'], minloglevel=2)
        p = spm.SentencePieceProcessor(model_file=d + '/m.model')
    tokens = []
    for i in range(p.get_piece_size()):
        kind = (UNKNOWN if p.is_unknown(i) else CONTROL if p.is_control(i) else BYTE if p.is_byte(i)
                else USER if p.id_to_piece(i) == '<think>' else NORMAL)
        tokens.append((kind, p.get_score(i), p.id_to_piece(i)))
    # sentencepiece drops what we keep as bytes: texts without NUL; and it cuts user-defined
    # symbols without starting a new fragment behind them, so these are not in the texts.
    texts = HAND + random_texts(3, 300)
    cases = [(0, 0, x, p.encode(x)) for x in texts]
    cases += [(1, 1, x, [1] + p.encode(x)) for x in texts[:40]]
    cases += [(0, 1, '<s>' + x, [1] + p.encode(x)) for x in texts[40:80]]
    write('mini-spm.vocab', ['model llama', 'role bos_token_id 1', 'role eos_token_id 2'], tokens, [], -1, cases)


# ---- words of every group ------------------------------------------------------------------------

def threes(s):
    n = len(s) % 3
    return ([s[:n]] if n else []) + [s[i:i + 3] for i in range(n, len(s), 3)]


def apply(pattern, piece):
    import regex
    if pattern == 'DIGITS':
        out = []
        for m in regex.splititer(r'(\p{N}+)', piece):
            out += threes(m) if m and regex.fullmatch(r'\p{N}+', m) else [m]
        return [x for x in out if x]
    out, at = [], 0
    for m in regex.finditer(pattern, piece):
        out += [piece[at:m.start()], m.group()]
        at = m.end()
    return [x for x in out + [piece[at:]] if x]


def translate(pattern):
    import re
    pattern = re.sub(r'\\x\{([0-9A-F]+)\}', lambda m: '\\U%08X' % int(m.group(1), 16), pattern)
    return pattern.replace(r'\p{sc:Han}', r'\p{Script=Han}').replace('$', r'\Z') if pattern == r'\s+$' else \
        pattern.replace(r'\p{sc:Han}', r'\p{Script=Han}')


def pretok(spec):
    groups = []
    for line in open(spec, encoding='utf-8').read().split('\n'):
        if line.startswith('group '):
            groups.append((line[6:], []))
        elif line:
            groups[-1][1].append(translate(line))
    with open(os.path.join(HERE, 'pretok.cases'), 'w', encoding='utf-8', newline='\n') as f:
        for i, (name, patterns) in enumerate(groups):
            texts = HAND[1:] + random_texts(100 + i, 40)
            print('group %s %d' % (name, len(texts)), file=f)
            for text in texts:
                words = [text]
                for p in patterns:
                    words = [w for piece in words for w in apply(p, piece)]
                if name == 'whitespace':
                    words = [w for w in words if not w.isspace()]
                print('%s\t%s' % (escape(text), ' '.join(str(len(w.encode())) for w in words)), file=f)


# ---- public vocabularies ---------------------------------------------------------------------------

def public(folder, name, head):
    from gguf import GGUFReader
    path = os.path.join(folder, 'ggml-vocab-%s.gguf' % name)
    fields = GGUFReader(path).fields

    def get(key):
        f = fields.get('tokenizer.ggml.' + key)
        return f.contents() if f else None
    merges, scores = get('merges') or [], get('scores')
    tokens = [(t, scores[i] if scores else None, x) for i, (x, t) in enumerate(zip(get('tokens'), get('token_type')))]
    first = 256 if merges else -1
    if merges:
        assert [m.replace(' ', '') for m in merges] == [t[2] for t in tokens[256:256 + len(merges)]]
    texts = open(path + '.inp', 'rb').read().split(b'\n__ggml_vocab_test__\n')
    lines = open(path + '.out', encoding='ascii').read().splitlines()
    cases = [(0, 0, t, list(map(int, i.split()))) for t, i in zip(texts, lines)]
    for key in ('bos_token_id', 'eos_token_id', 'unknown_token_id'):
        if get(key) is not None:
            head.append('role %s %d' % (key, get(key)))
    write(name + '.vocab', head, tokens, merges, first, cases)


def main():
    if sys.argv[1:] == ['mini']:
        mini_bpe()
        mini_spm()
    elif sys.argv[1:2] == ['pretok'] and len(sys.argv) == 3:
        pretok(sys.argv[2])
    elif sys.argv[1:2] == ['public'] and len(sys.argv) == 3:
        public(sys.argv[2], 'gpt-2', ['model gpt2', 'pre gpt-2'])
        public(sys.argv[2], 'phi-3', ['model llama', 'name Phi3', 'add_bos 1'])
    else:
        sys.exit(__doc__)


if __name__ == '__main__':
    main()
