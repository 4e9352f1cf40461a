/* cmd/progress.c - see progress.h. */
#include "cmd/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cmd/console.h"

#define PATIENCE_NS SH_SECOND
#define BAR_NS (50 * SH_MS)
#define LINE_NS SH_SECOND
#define BAR_CELLS 30

void sh_progress_init(struct sh_progress *p, const char *what, bool in_bytes)
{
    *p = (struct sh_progress){.what = what,
                              .in_bytes = in_bytes,
                              .terminal = sh_stderr_is_terminal(),
                              .began_ns = sh_now_ns(&sh_clock_system),
                              .last_percent = -1};
}

static void amounts(const struct sh_progress *p, uint64_t done, uint64_t total, char out[64])
{
    if (p->in_bytes) {
        const struct sh_short a = sh_show_bytes((double)done), b = sh_show_bytes((double)total);
        (void)snprintf(out, 64, "%s of %s", a.text, b.text);
    } else {
        (void)snprintf(out, 64, "%llu of %llu", (unsigned long long)done,
                       (unsigned long long)total);
    }
}

static int percent_of(uint64_t done, uint64_t total)
{
    const int percent = total ? (int)((double)done / (double)total * 100) : 100;

    return percent > 100 ? 100 : percent;
}

static void draw_bar(const char *what, int width, int percent, const char *text, const char *end)
{
    char bar[BAR_CELLS + 1], line[200];
    const int full = percent * BAR_CELLS / 100;

    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    const int n = snprintf(line, sizeof line, "\r%-*s [%s] %3d %%  %s\x1b[K%s", width, what, bar,
                           percent, text, end);
    if (n > 0 && (size_t)n < sizeof line) sh_say_text((struct sh_str){line, (size_t)n});
}

// Up to the first of our lines.
static void go_back(struct sh_progress *p)
{
    char up[16];
    const int n = snprintf(up, sizeof up, "\x1b[%dA", p->lines);

    if (p->lines > 0 && n > 0) sh_say_text((struct sh_str){up, (size_t)n});
    p->lines = 0;
}

static void draw_rows(struct sh_progress *p)
{
    int width = 0;

    for (int i = 0; i < p->n_rows; i++) {
        const int n = (int)strlen(p->row[i].label);
        if (n > width) width = n;
    }
    go_back(p);
    for (int i = 0; i < p->n_rows; i++) {
        const struct sh_progress_row *r = &p->row[i];
        char text[64];
        if (!r->label[0]) continue;
        amounts(p, r->done, r->total, text);
        draw_bar(r->label, width, percent_of(r->done, r->total), text, "\n");
        p->lines++;
    }
}

void sh_progress_row(struct sh_progress *p, int row, const char *label, uint64_t done,
                     uint64_t total)
{
    if (row < 0 || row >= SH_PROGRESS_ROWS) return;
    if (row >= p->n_rows) p->n_rows = row + 1;
    (void)snprintf(p->row[row].label, sizeof p->row[row].label, "%.*s",
                   (int)sizeof p->row[row].label - 1, label);
    p->row[row].done = done;
    p->row[row].total = total;
}

void sh_progress_step(struct sh_progress *p, uint64_t done, uint64_t total)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    const int percent = percent_of(done, total);
    char text[64];

    if (now - p->began_ns < PATIENCE_NS || percent == p->last_percent) return;
    if (p->shown && now - p->last_ns < (p->terminal ? BAR_NS : LINE_NS)) return;
    p->shown = true;
    p->last_ns = now;
    p->last_percent = percent;
    amounts(p, done, total, text);
    if (p->terminal && p->n_rows > 1) {
        draw_rows(p);
    } else if (p->terminal) {
        draw_bar(p->what, 0, percent, text, "");
    } else {
        sh_say("%s: %d %%, %s", p->what, percent, text);
    }
}

void sh_progress_end(struct sh_progress *p)
{
    if (p->terminal && p->shown) {
        go_back(p);
        sh_say_text(SH_STR_LIT("\r\x1b[J"));
    }
    p->shown = false;
}
