/* vocab_file.c - see vocab_file.h. */
#include "vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

struct sh_str vocab_file_unescape(char *s, size_t len)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        if (s[i] != '\\' || i + 1 == len) {
            s[n++] = s[i];
            continue;
        }
        const char c = s[++i];
        if (c == 'x' && i + 2 < len) {
            s[n++] = (char)(hex(s[i + 1]) * 16 + hex(s[i + 2]));
            i += 2;
        } else {
            s[n++] = c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
        }
    }
    return (struct sh_str){s, n};
}

/* The next line, ended by NUL, or NULL. */
static char *take_line(char **at, size_t *len)
{
    char *const line = *at, *const newline = strchr(line, '\n');

    if (!newline) return NULL;
    *newline = '\0';
    *len = (size_t)(newline - line);
    *at = newline + 1;
    return line;
}

static size_t take_count(char **rest)
{
    return strtoul(*rest, rest, 10);
}

static void take_role(struct vocab_file *f, char *rest)
{
    static const char *const keys[] = {
#define X(name, key) key,
        SH_VOCAB_ROLES(X)
#undef X
    };
    char *const blank = strchr(rest, ' ');

    assert_non_null(blank);
    *blank = '\0';
    for (int r = 0; r < SH_ROLE_COUNT; r++) {
        if (strcmp(keys[r], rest) != 0) continue;
        f->desc.roles[r] = strtol(blank + 1, NULL, 10);
        return;
    }
    fail_msg("no role '%s'", rest);
}

static void take_tokens(struct vocab_file *f, size_t n, char **at)
{
    float before = 0;
    size_t len = 0;

    f->desc.n_tokens = n;
    f->tokens = sh_calloc(n, sizeof *f->tokens);
    f->types = sh_calloc(n, sizeof *f->types);
    f->scores = sh_calloc(n, sizeof *f->scores);
    for (size_t i = 0; i < n; i++) {
        char *line = take_line(at, &len), *p = line;
        assert_non_null(line);
        f->types[i] = (int32_t)strtol(p, &p, 10);
        f->scores[i] = p[1] == '-' && p[2] == ' ' ? before - 1 : strtof(p, &p);
        if (*p == ' ' && p[1] == '-' && p[2] == ' ') p += 2;
        assert_int_equal(*p, ' ');
        before = f->scores[i];
        f->tokens[i] = vocab_file_unescape(p + 1, len - (size_t)(p + 1 - line));
    }
}

/* Make room for n tokens before token `first`, with the texts of the merges. */
static void define_tokens(struct vocab_file *f, size_t n, size_t first)
{
    const size_t rest = f->desc.n_tokens - first;
    size_t bytes = 0;
    char *dst;

    assert_true(first <= f->desc.n_tokens);
    for (size_t i = 0; i < n; i++)
        bytes += f->merges[i].len;
    f->desc.n_tokens += n;
    f->tokens = sh_realloc_array(f->tokens, f->desc.n_tokens, sizeof *f->tokens);
    f->types = sh_realloc_array(f->types, f->desc.n_tokens, sizeof *f->types);
    f->scores = sh_realloc_array(f->scores, f->desc.n_tokens, sizeof *f->scores);
    f->joined = dst = sh_malloc(bytes);
    memmove(f->tokens + first + n, f->tokens + first, rest * sizeof *f->tokens);
    memmove(f->types + first + n, f->types + first, rest * sizeof *f->types);
    for (size_t i = 0; i < n; i++) {
        const struct sh_str m = f->merges[i];
        const char *const blank = memchr(m.ptr, ' ', m.len);
        const size_t left = (size_t)(blank - m.ptr);
        memcpy(dst, m.ptr, left);
        memcpy(dst + left, blank + 1, m.len - left - 1);
        f->tokens[first + i] = (struct sh_str){dst, m.len - 1};
        f->types[first + i] = SH_TOKEN_NORMAL;
        dst += m.len - 1;
    }
    memset(f->scores, 0, f->desc.n_tokens * sizeof *f->scores);
}

static void take_merges(struct vocab_file *f, char *rest, char **at)
{
    const size_t n = take_count(&rest);
    const long first = strtol(rest, NULL, 10);
    size_t len = 0;

    f->desc.n_merges = n;
    f->merges = sh_calloc(n, sizeof *f->merges);
    for (size_t i = 0; i < n; i++) {
        char *line = take_line(at, &len);
        assert_non_null(line);
        f->merges[i] = (struct sh_str){line, len};
    }
    if (first >= 0) define_tokens(f, n, (size_t)first);
}

static void take_cases(struct vocab_file *f, size_t n, char **at)
{
    size_t len = 0;

    f->n_cases = n;
    f->cases = sh_calloc(n, sizeof *f->cases);
    for (size_t i = 0; i < n; i++) {
        char *line = take_line(at, &len), *tab = line ? strchr(line, '\t') : NULL;
        if (!tab) {
            fail_msg("case %zu is no case", i);
            return;
        }
        f->cases[i] =
            (struct vocab_case){.text = vocab_file_unescape(line + 4, (size_t)(tab - line) - 4),
                                .ids = tab + 1,
                                .add = line[0] == '1',
                                .parse = line[2] == '1'};
    }
}

static void take_section(struct vocab_file *f, char *line, size_t len, char **at)
{
    char *const blank = strchr(line, ' ');
    char *rest;
    struct sh_str word;

    assert_non_null(blank);
    rest = blank + 1;
    *blank = '\0';
    word = (struct sh_str){rest, len - (size_t)(rest - line)};
    if (strcmp(line, "model") == 0)
        f->desc.model = word;
    else if (strcmp(line, "pre") == 0)
        f->desc.pre = word;
    else if (strcmp(line, "name") == 0)
        f->desc.name = word;
    else if (strcmp(line, "add_bos") == 0)
        f->desc.add_bos = *rest == '1';
    else if (strcmp(line, "add_eos") == 0)
        f->desc.add_eos = *rest == '1';
    else if (strcmp(line, "add_space") == 0)
        f->desc.add_space_prefix = *rest == '1';
    else if (strcmp(line, "role") == 0)
        take_role(f, rest);
    else if (strcmp(line, "tokens") == 0)
        take_tokens(f, take_count(&rest), at);
    else if (strcmp(line, "merges") == 0)
        take_merges(f, rest, at);
    else if (strcmp(line, "cases") == 0)
        take_cases(f, take_count(&rest), at);
    else
        fail_msg("no section '%s'", line);
}

void vocab_file_open(struct vocab_file *f, const char *path)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    size_t len = 0;
    char *at, *line;

    *f = (struct vocab_file){.bytes = NULL};
    sh_vocab_desc_init(&f->desc);
    if (sh_read_file(&f->bytes, &len, path, (size_t)1 << 24, &err)) fail_msg("%s", err.message);
    at = f->bytes;
    while ((line = take_line(&at, &len)) != NULL)
        take_section(f, line, len, &at);
    f->desc.tokens = f->tokens;
    f->desc.types = f->types;
    f->desc.scores = f->scores;
    f->desc.merges = f->merges;
}

void vocab_file_close(struct vocab_file *f)
{
    sh_free(f->bytes);
    sh_free(f->tokens);
    sh_free(f->merges);
    sh_free(f->types);
    sh_free(f->scores);
    sh_free(f->joined);
    sh_free(f->cases);
}
