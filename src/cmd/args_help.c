/* cmd/args_help.c - the text of --help, laid out from the table.
 *
 *     shoal run - what it does, in a paragraph
 *
 *     Usage: shoal run -m model.gguf -p "text"
 *
 *     Title:
 *       -n, --predict N           what it does, wrapped at 80 columns and
 *                                 aligned
 */
#include "cmd/args_priv.h"

#define WIDTH 80
#define COLUMN 28

// Append words of `text`, wrapped; the cursor stands at column *at, new lines begin at `indent`.
static enum shoal_status wrap(struct sh_buf *out, const char *text, size_t *at, size_t indent)
{
    enum shoal_status st = SHOAL_OK;
    bool first = true;

    while (*text && !st) {
        const size_t len = strcspn(text, " \n");
        const bool breaks = text[len] == '\n';
        if (!first && *at + 1 + len > WIDTH) {
            st = sh_buf_printf(out, "\n%*s", (int)indent, "");
            *at = indent;
            first = true;
        }
        if (!st) st = sh_buf_printf(out, "%s%.*s", first ? "" : " ", (int)len, text);
        *at += len + !first;
        first = false;
        text += len + (text[len] != '\0');
        if (breaks && !st) {
            st = sh_buf_printf(out, "\n%*s", (int)indent, "");
            *at = indent;
            first = true;
        }
    }
    return st;
}

// "  -n, --predict N", the first two names and the value.
static enum shoal_status add_left(struct sh_buf *out, const struct sh_arg *a)
{
    const char *names = a->names;
    struct sh_str name;
    enum shoal_status st = sh_buf_append(out, "  ", 2);

    for (int i = 0; i < 2 && !st && sh_arg_name_next(&names, &name); i++)
        st = sh_buf_printf(out, "%s%.*s", i ? ", " : "", (int)name.len, name.ptr);
    if (!st && a->value) st = sh_buf_printf(out, " %s", a->value);
    return st;
}

static enum shoal_status add_option(struct sh_buf *out, const struct sh_arg *a)
{
    const size_t begin = out->len;
    enum shoal_status st = add_left(out, a);
    size_t at = out->len - begin;

    if (!st && at + 2 > COLUMN) {
        st = sh_buf_printf(out, "\n%*s", COLUMN, "");
    } else if (!st) {
        st = sh_buf_printf(out, "%*s", (int)(COLUMN - at), "");
    }
    at = COLUMN;
    if (!st) st = wrap(out, a->help, &at, COLUMN);
    if (!st) st = sh_buf_append(out, "\n", 1);
    return st;
}

// The names of all rows of a kind that only exists for users of llama.cpp.
static enum shoal_status add_foreign(struct sh_buf *out, const struct sh_command *c,
                                     enum sh_arg_kind kind, const char *title)
{
    struct sh_buf words = SH_BUF_INIT;
    enum shoal_status st = SHOAL_OK;
    size_t at = 2;

    for (int i = 0; i < c->n_args && !st; i++) {
        const char *names = c->args[i].names;
        struct sh_str name;
        while (c->args[i].kind == kind && !st && sh_arg_name_next(&names, &name))
            st = sh_buf_printf(&words, "%s%.*s", words.len ? " " : "", (int)name.len, name.ptr);
    }
    if (!st && words.len > 0) {
        st = sh_buf_printf(out, "\n%s\n  ", title);
        if (!st) st = wrap(out, words.ptr, &at, 2);
        if (!st) st = sh_buf_append(out, "\n", 1);
    }
    sh_buf_release(&words);
    return st;
}

enum shoal_status sh_args_help(const struct sh_command *c, struct sh_buf *out)
{
    size_t at = 0;
    enum shoal_status st = sh_buf_printf(out, "Usage: shoal %s %s\n\n", c->name, c->usage);

    if (!st) st = wrap(out, c->about, &at, 0);
    if (!st) st = sh_buf_append(out, "\n", 1);
    for (int i = 0; i < c->n_args && !st; i++) {
        const struct sh_arg *a = &c->args[i];
        if (a->kind == SH_ARG_NOTE || a->kind == SH_ARG_REFUSED || !a->help) continue;
        st =
            a->kind == SH_ARG_SECTION ? sh_buf_printf(out, "\n%s:\n", a->help) : add_option(out, a);
    }
    if (!st)
        st =
            add_foreign(out, c, SH_ARG_NOTE, "llama.cpp's flags that are accepted without effect:");
    if (!st) st = add_foreign(out, c, SH_ARG_REFUSED, "llama.cpp's flags that are refused:");
    if (!st && c->more) st = sh_buf_printf(out, "\n%s", c->more);
    return st;
}
