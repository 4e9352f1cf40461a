/* cpu/pages.c - small pages first, large ones where memory is used (cpu/pages_priv.h).
 *
 * The kernel tells which small pages exist (mincore).  A window is joined at once where the kernel
 * can do it on request (Linux 6.1), else it is marked for the kernel's own thread.  Whether that
 * succeeds is not asked: each window gets one try, so what cannot be joined costs no more.
 */
#include "cpu/pages_priv.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

#define PAGE ((size_t)4096)
#define WINDOW ((size_t)2 << 20)
#define PAGES_IN_WINDOW (WINDOW / PAGE)
#define USED_FROM (PAGES_IN_WINDOW / 4)
#define LOOK_AT_MOST 8      // places in one call
#define AT_ONCE_MOST 16     // windows
#define JOIN_NS (2 * SH_MS) // what one takes, about

#ifdef MADV_HUGEPAGE
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

bool sh_cpu_pages_usable(void)
{
    static const char path[] = "/sys/kernel/mm/transparent_hugepage/enabled";
    char *text = NULL;
    size_t len = 0;
    bool usable;

    if ((size_t)sysconf(_SC_PAGESIZE) != PAGE) return false; // then windows are of another size
    if (sh_read_file(&text, &len, path, PAGE, NULL)) return false;
    usable = !strstr(text, "[never]"); // joining on request would pass over this
    sh_free(text);
    return usable;
}

static void advise_small(uint8_t *p, size_t bytes)
{
    (void)madvise(p, bytes, MADV_NOHUGEPAGE);
}

static void join(uint8_t *windows, size_t n)
{
    (void)madvise(windows, n * WINDOW, MADV_HUGEPAGE);
    (void)madvise(windows, n * WINDOW, MADV_COLLAPSE);
}

static size_t count_used(uint8_t *window)
{
    unsigned char state[PAGES_IN_WINDOW];
    size_t n = 0;

    if (mincore(window, WINDOW, state) != 0) return 0;
    for (size_t i = 0; i < PAGES_IN_WINDOW; i++)
        n += state[i] & 1;
    return n;
}

#else

bool sh_cpu_pages_usable(void)
{
    return false;
}

static void advise_small(uint8_t *p, size_t bytes)
{
    (void)p;
    (void)bytes;
}

static void join(uint8_t *windows, size_t n)
{
    (void)windows;
    (void)n;
}

static size_t count_used(uint8_t *window)
{
    (void)window;
    return 0;
}

#endif

enum shoal_status sh_cpu_pages_init(struct sh_cpu_pages *p, uint8_t *data, size_t bytes,
                                    struct shoal_error *err)
{
    const size_t gap = (WINDOW - (uintptr_t)data % WINDOW) % WINDOW;

    *p = (struct sh_cpu_pages)SH_CPU_PAGES_INIT;
    if (bytes < gap + WINDOW) return SHOAL_OK;
    p->n_windows = (bytes - gap) / WINDOW;
    p->joined = sh_calloc(p->n_windows, sizeof *p->joined);
    if (!p->joined) {
        p->n_windows = 0;
        return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory to watch the pages of a buffer");
    }
    p->windows = data + gap;
    p->n_left = p->n_windows;
    advise_small(p->windows, p->n_windows * WINDOW);
    return SHOAL_OK;
}

void sh_cpu_pages_release(struct sh_cpu_pages *p)
{
    sh_free(p->joined);
    *p = (struct sh_cpu_pages)SH_CPU_PAGES_INIT;
}

/* How many windows from `i` on can be joined together, at most `most`. */
static size_t count_ready(const struct sh_cpu_pages *p, size_t i, size_t most)
{
    size_t n = 0;

    while (n < most && i + n < p->n_windows && !p->joined[i + n] &&
           count_used(p->windows + (i + n) * WINDOW) >= USED_FROM)
        n++;
    return n;
}

void sh_cpu_pages_join(struct sh_cpu_pages *p, int64_t budget_ns)
{
    const int64_t began_ns = sh_now_ns(&sh_clock_system);
    int64_t spent_ns = 0, most;

    if (p->n_left == 0) return;
    p->credit_ns = p->credit_ns < 0 ? p->credit_ns + budget_ns : budget_ns;
    most = p->credit_ns / JOIN_NS < AT_ONCE_MOST ? p->credit_ns / JOIN_NS + 1 : AT_ONCE_MOST;
    for (int looks = 0; looks < LOOK_AT_MOST && p->n_left > 0 && spent_ns < p->credit_ns; looks++) {
        const size_t i = p->next, n = count_ready(p, i, (size_t)most);
        p->next = (i + (n > 0 ? n : 1)) % p->n_windows;
        if (n == 0) continue;
        join(p->windows + i * WINDOW, n);
        memset(p->joined + i, 1, n);
        p->n_left -= n;
        spent_ns = sh_now_ns(&sh_clock_system) - began_ns;
    }
    p->credit_ns -= spent_ns;
}
