/* cmd/progress.c - see progress.h. */
#include "cmd/progress.h"

#include <stdio.h>

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

static void draw_bar(const struct sh_progress *p, int percent, const char *text)
{
    char bar[BAR_CELLS + 1], line[160];
    const int full = percent * BAR_CELLS / 100;

    for (int i = 0; i < BAR_CELLS; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_CELLS] = '\0';
    const int n =
        snprintf(line, sizeof line, "\r%s [%s] %3d %%  %s\x1b[K", p->what, bar, percent, text);
    if (n > 0 && (size_t)n < sizeof line) sh_say_text((struct sh_str){line, (size_t)n});
}

void sh_progress_step(struct sh_progress *p, uint64_t done, uint64_t total)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    const int percent = total ? (int)((double)done / (double)total * 100) : 100;
    char text[64];

    if (now - p->began_ns < PATIENCE_NS || percent == p->last_percent) return;
    if (p->shown && now - p->last_ns < (p->terminal ? BAR_NS : LINE_NS)) return;
    p->shown = true;
    p->last_ns = now;
    p->last_percent = percent;
    amounts(p, done, total, text);
    if (p->terminal) {
        draw_bar(p, percent, text);
    } else {
        sh_say("%s: %d %%, %s", p->what, percent, text);
    }
}

void sh_progress_end(struct sh_progress *p)
{
    if (p->terminal && p->shown) sh_say_text(SH_STR_LIT("\r\x1b[K"));
    p->shown = false;
}
