/* cmd/table.c - see table.h. */
#include "cmd/table.h"

#include <stdarg.h>
#include <stdio.h>

#include "cmd/console.h"
#include "cmd/log_line.h"
#include "text/unicode.h"

struct sh_table sh_table_begin(const char *align)
{
    return (struct sh_table){
        .n_columns = (int)strlen(align), .align = align, .cells = SH_BUF_INIT, .n_cells = 0};
}

void sh_table_add(struct sh_table *t, const char *fmt, ...)
{
    char cell[256];
    va_list args;
    const size_t before = t->cells.len;

    va_start(args, fmt);
    (void)vsnprintf(cell, sizeof cell, fmt, args);
    va_end(args);
    if (sh_append_harmless(&t->cells, sh_str_from(cell)) || sh_buf_append(&t->cells, "", 1)) {
        t->cells.len = before;
        return;
    }
    t->n_cells++;
}

// Characters of a cell.
static int width_of(const char *cell)
{
    int n = 0;

    for (; *cell; n++)
        cell += sh_utf8_next(cell, strlen(cell)).n_bytes;
    return n;
}

static enum shoal_status add_row(struct sh_buf *out, const struct sh_table *t, const char **cell,
                                 const int *width, int indent)
{
    enum shoal_status st = sh_buf_printf(out, "%*s", indent, "");

    for (int c = 0; c < t->n_columns && !st; c++) {
        const int pad = width[c] - width_of(*cell);
        const bool right = t->align[c] == 'r', last = c + 1 == t->n_columns;
        st = sh_buf_printf(out, "%s%*s%s%*s", c ? "   " : "", right ? pad : 0, "", *cell,
                           right || last ? 0 : pad, "");
        *cell += strlen(*cell) + 1;
    }
    while (!st && out->len > 0 && out->ptr[out->len - 1] == ' ')
        out->len--;
    return st ? st : sh_buf_append(out, "\n", 1);
}

enum shoal_status sh_table_append(struct sh_table *t, int indent, struct sh_buf *out)
{
    int width[SH_TABLE_COLUMNS_MAX] = {0};
    const char *cell = t->cells.ptr;
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < t->n_cells; i++) {
        const int w = width_of(cell);
        if (w > width[i % t->n_columns]) width[i % t->n_columns] = w;
        cell += strlen(cell) + 1;
    }
    cell = t->cells.ptr;
    for (int i = 0; i + t->n_columns <= t->n_cells && !st; i += t->n_columns)
        st = add_row(out, t, &cell, width, indent);
    sh_buf_release(&t->cells);
    return st;
}

void sh_table_end(struct sh_table *t, int indent)
{
    struct sh_buf out = SH_BUF_INIT;

    if (!sh_table_append(t, indent, &out) && out.len)
        sh_say_text((struct sh_str){out.ptr, out.len});
    sh_buf_release(&out);
}
