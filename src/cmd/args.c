/* cmd/args.c - walking argv along a table. */
#include "cmd/args.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cmd/args_priv.h"
#include "cmd/console.h"

#define NAME_MAX_LEN 40

bool sh_arg_name_next(const char **names, struct sh_str *name)
{
    const char *at = *names + strspn(*names, " ");

    *name = (struct sh_str){at, strcspn(at, " ")};
    *names = at + name->len;
    return name->len > 0;
}

int sh_usage_error(const struct sh_command *c, const char *fmt, ...)
{
    char sentence[1024];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    sh_say_error("%s: %s (shoal %s --help lists the options)", c->name, sentence, c->name);
    return SH_EXIT_USAGE;
}

/* ---- finding a row -------------------------------------------------------------------------- */

// Does argv's word name this option?  '_' in it counts as '-'; what follows '=' is the value.
static bool matches(struct sh_str name, const char *word, size_t len)
{
    const bool is_long = len > 2 && word[1] == '-';

    if (name.len != len) return false;
    for (size_t i = 0; i < len; i++) {
        const char ch = is_long && word[i] == '_' ? '-' : word[i];
        if (ch != name.ptr[i]) return false;
    }
    return true;
}

static const struct sh_arg *find_row(const struct sh_command *c, const char *word,
                                     const char **value)
{
    const char *equals = word[1] == '-' ? strchr(word, '=') : NULL;
    const size_t len = equals ? (size_t)(equals - word) : strlen(word);

    *value = equals ? equals + 1 : NULL;
    for (int i = 0; i < c->n_args; i++) {
        const char *names = c->args[i].names;
        struct sh_str name;
        while (names && sh_arg_name_next(&names, &name)) {
            if (matches(name, word, len)) return &c->args[i];
        }
    }
    return NULL;
}

/* ---- near names ----------------------------------------------------------------------------- */

// Edit distance of two short words; more than NAME_MAX_LEN letters are far from everything.
static int distance(const char *a, const char *b)
{
    int row[NAME_MAX_LEN + 1];
    const size_t n = strlen(a), m = strlen(b);

    if (n > NAME_MAX_LEN || m > NAME_MAX_LEN) return NAME_MAX_LEN;
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            const int change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;
            row[j] = change < best ? change : best;
        }
    }
    return row[m];
}

const char *sh_nearest(const char *word, int n, const char *(*get)(const void *self, int i),
                       const void *self)
{
    const char *best = NULL;
    int least = strlen(word) > 5 ? 4 : 3; // one less than this is still near

    for (int i = 0; i < n; i++) {
        const char *candidate = get(self, i);
        const int d = candidate ? distance(word, candidate) : least;
        if (d < least) {
            least = d;
            best = candidate;
        }
    }
    return best;
}

struct names {
    char text[512][NAME_MAX_LEN + 1];
    int n;
};

static const char *get_name(const void *self, int i)
{
    const struct names *list = self;

    return list->text[i];
}

static int unknown(const struct sh_command *c, const char *word)
{
    struct names list = {.n = 0};
    char head[NAME_MAX_LEN + 1];

    for (int i = 0; i < c->n_args; i++) {
        const char *names = c->args[i].names;
        struct sh_str name;
        while (names && sh_arg_name_next(&names, &name)) {
            if (list.n == 512 || name.len > NAME_MAX_LEN) continue;
            memcpy(list.text[list.n], name.ptr, name.len);
            list.text[list.n++][name.len] = '\0';
        }
    }
    (void)snprintf(head, sizeof head, "%.*s", (int)strcspn(word, "="), word);
    const char *near = head[1] ? sh_nearest(head, list.n, get_name, &list) : NULL;
    if (near) return sh_usage_error(c, "there is no option %s; did you mean %s?", head, near);
    return sh_usage_error(c, "there is no option %s", head);
}

/* ---- one row -------------------------------------------------------------------------------- */

// Where `value` is "[a|b]", the next word is taken only if it is one of these.
static bool is_optional_value(const struct sh_arg *a, const char *next)
{
    char choices[120];
    const size_t len = strlen(a->value);

    if (!next || len < 2 || len - 2 >= sizeof choices) return false;
    memcpy(choices, a->value + 1, len - 2);
    choices[len - 2] = '\0';
    return sh_arg_choice(choices, sh_str_from(next)) >= 0;
}

static int apply(const struct sh_command *c, const struct sh_arg *a, void *options,
                 const char *word, const char *value)
{
    const int len = (int)strcspn(word, "=");
    char why[200];

    switch (a->kind) {
    case SH_ARG_FLAG:
    case SH_ARG_FLAG_NO:
        *(bool *)(void *)((char *)options + a->at) = a->kind == SH_ARG_FLAG;
        return SH_PARSED;
    case SH_ARG_NOTE:
        sh_say("%s: note: %.*s has no effect: %s", c->name, len, word, a->help);
        return SH_PARSED;
    case SH_ARG_REFUSED:
        return sh_usage_error(c, "%.*s is not possible: %s", len, word, a->help);
    default:
        if (sh_arg_store(a, options, value, why)) return SH_PARSED;
        return sh_usage_error(c, "%.*s takes %s, not \"%s\"", len, word, why, value);
    }
}

// One option at argv[*i]; *i moves over what it takes.
static int parse_option(const struct sh_command *c, void *options, int argc, char **argv, int *i)
{
    const char *word = argv[*i], *value;
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    const struct sh_arg *a = find_row(c, word, &value);
    const bool optional = a && a->value && a->value[0] == '[';

    if (!a) return unknown(c, word);
    if (!a->value && value)
        return sh_usage_error(c, "%.*s takes no value", (int)strcspn(word, "="), word);
    if (a->value && !value && (!optional || is_optional_value(a, next))) {
        if (!next && a->kind != SH_ARG_REFUSED)
            return sh_usage_error(c, "%s needs a value: %s %s", word, word, a->value);
        value = next;
        (*i)++;
    }
    return apply(c, a, options, word, value);
}

static int take_operand(const struct sh_command *c, void *options, const char *word)
{
    const char **field = (const char **)(void *)((char *)options + c->operand_at);

    if (!c->operand) return sh_usage_error(c, "\"%s\" belongs to no option", word);
    for (int i = 0; i < (c->operands_max ? c->operands_max : 1); i++) {
        if (field[i]) continue;
        field[i] = word;
        return SH_PARSED;
    }
    return sh_usage_error(c, "\"%s\" is one %s too many", word, c->operand);
}

static int show_help(const struct sh_command *c)
{
    struct sh_buf text = SH_BUF_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = sh_args_help(c, &text);

    if (st) st = sh_fail(&err, st, "no memory for the help text");
    if (!st) st = sh_write_all(STDOUT_FILENO, "stdout", (struct sh_str){text.ptr, text.len}, &err);
    sh_buf_release(&text);
    return st ? sh_say_failure(st, &err) : 0;
}

int sh_args_parse(const struct sh_command *c, void *options, int argc, char **argv)
{
    bool only_operands = false;
    int code = SH_PARSED;

    for (int i = 1; i < argc && code == SH_PARSED; i++) {
        const char *word = argv[i];
        if (!only_operands && (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0))
            return show_help(c);
        if (!only_operands && strcmp(word, "--") == 0) {
            only_operands = true;
        } else if (!only_operands && word[0] == '-' && word[1]) {
            code = parse_option(c, options, argc, argv, &i);
        } else {
            code = take_operand(c, options, word);
        }
    }
    return code;
}
