/* tests/generate/guard_mem.c - the heap behind guard_mem.h.
 *
 *      | no access | pages of the block ........ | no access |
 *                  | ^ GUARD_BEGIN               |
 *                  |      GUARD_END: block, slack|
 *
 * Regions have a power of two of pages, and are kept for later blocks of that size when released.
 * Bytes of the last page (first page) outside the block are set to a pattern, and checked when the
 * block is released.
 */
#include "guard_mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

#define N_BUCKETS 4096
#define N_CLASSES 32
#define PATTERN 0xa5
#define BLOCK_MAX                                                                                  \
    ((size_t)256 << 20) // the devices here have 64 MiB: who asks for more is unchecked
#define WATCHED 64      // bytes on each side of a block that are checked, where there are as many

struct region {
    uint8_t *pages; // between the two guards
    size_t n_bytes; // of pages
    uint8_t *block;
    size_t bytes;
    int class;
    struct region *next;
};

static pthread_mutex_t g_lock = PTHREAD_MUTEX_INITIALIZER; // guards all of these:
static struct region *g_live[N_BUCKETS];
static struct region *g_spare[N_CLASSES];
static size_t g_live_bytes, g_peak_bytes;
static int64_t g_fail_in = -1;
static enum guard_side g_side = GUARD_END;
static uint8_t g_filler;

void guard_set_side(enum guard_side side)
{
    pthread_mutex_lock(&g_lock);
    g_side = side;
    pthread_mutex_unlock(&g_lock);
}

void guard_set_filler(uint8_t value)
{
    pthread_mutex_lock(&g_lock);
    g_filler = value;
    pthread_mutex_unlock(&g_lock);
}

static size_t bucket_of(const void *p)
{
    return ((uintptr_t)p >> 6) * 0x9e3779b1u % N_BUCKETS;
}

/* A region of at least `bytes`; under the lock. */
static struct region *take_region(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct region *r;
    uint8_t *map;
    int class = 0;

    while (page << class < bytes) {
        if (++class == N_CLASSES) return NULL;
    }
    r = g_spare[class];
    if (r) {
        g_spare[class] = r->next;
        return r;
    }
    r = malloc(sizeof *r);
    if (!r) return NULL;
    r->class = class;
    r->n_bytes = page << class;
    map = mmap(NULL, r->n_bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
    if (map == MAP_FAILED || mprotect(map + page, r->n_bytes, PROT_READ | PROT_WRITE) != 0) {
        if (map != MAP_FAILED) munmap(map, r->n_bytes + 2 * page);
        free(r);
        return NULL;
    }
    r->pages = map + page;
    return r;
}

/* The watched bytes in front of a block and behind it. */
static void watched(const struct region *r, uint8_t **front, size_t *n_front, uint8_t **back,
                    size_t *n_back)
{
    const size_t before = (size_t)(r->block - r->pages);
    const size_t after = r->n_bytes - before - r->bytes;

    *n_front = before < WATCHED ? before : WATCHED;
    *front = r->block - *n_front;
    *back = r->block + r->bytes;
    *n_back = after < WATCHED ? after : WATCHED;
}

static void *allocate(size_t bytes, bool zeroed)
{
    struct region *r = NULL;
    uint8_t *front, *back;
    size_t rounded, n_front, n_back;

    if (bytes > PTRDIFF_MAX || !sh_round_up_ok(bytes ? bytes : 1, SH_MEM_ALIGN, &rounded)) {
        return NULL;
    }
    SH_ASSERT(bytes <= BLOCK_MAX);
    pthread_mutex_lock(&g_lock);
    if (g_fail_in < 0 || g_fail_in-- > 0) r = take_region(rounded);
    if (!r) {
        pthread_mutex_unlock(&g_lock);
        return NULL;
    }
    r->bytes = bytes;
    r->block = g_side == GUARD_END ? r->pages + r->n_bytes - rounded : r->pages;
    watched(r, &front, &n_front, &back, &n_back);
    memset(front, PATTERN, n_front);
    memset(back, PATTERN, n_back);
    memset(r->block, zeroed ? 0 : g_filler, bytes);
    r->next = g_live[bucket_of(r->block)];
    g_live[bucket_of(r->block)] = r;
    g_live_bytes += bytes;
    if (g_live_bytes > g_peak_bytes) g_peak_bytes = g_live_bytes;
    pthread_mutex_unlock(&g_lock);
    return r->block;
}

static bool is_pattern(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != PATTERN) return false;
    }
    return true;
}

void *sh_malloc(size_t bytes)
{
    return allocate(bytes, false);
}

void *sh_calloc(size_t n, size_t bytes)
{
    size_t total;

    return sh_mul_ok(n, bytes, &total) ? allocate(total, true) : NULL;
}

void sh_free(void *p)
{
    struct region **at, *r;
    uint8_t *front, *back;
    size_t n_front, n_back;

    if (!p) return;
    pthread_mutex_lock(&g_lock);
    for (at = &g_live[bucket_of(p)]; *at && (*at)->block != p; at = &(*at)->next) {
    }
    r = *at;
    SH_ASSERT(r); // else: freed twice, or never allocated
    *at = r->next;
    watched(r, &front, &n_front, &back, &n_back);
    SH_ASSERT(is_pattern(front, n_front)); // else: written in front of the block
    SH_ASSERT(is_pattern(back, n_back));   // else: written behind the block
    memset(r->block, 0xdd, r->bytes);
    g_live_bytes -= r->bytes;
    r->next = g_spare[r->class];
    g_spare[r->class] = r;
    pthread_mutex_unlock(&g_lock);
}

static size_t bytes_of(const void *p)
{
    struct region *r;
    size_t bytes;

    pthread_mutex_lock(&g_lock);
    for (r = g_live[bucket_of(p)]; r && r->block != p; r = r->next) {
    }
    SH_ASSERT(r);
    bytes = r->bytes;
    pthread_mutex_unlock(&g_lock);
    return bytes;
}

void *sh_realloc_array(void *p, size_t n, size_t bytes)
{
    size_t total, old;
    void *fresh;

    if (!sh_mul_ok(n, bytes, &total)) return NULL;
    fresh = sh_malloc(total);
    if (!fresh || !p) return fresh;
    old = bytes_of(p);
    memcpy(fresh, p, old < total ? old : total);
    sh_free(p);
    return fresh;
}

char *sh_strdup(const char *s)
{
    const size_t len = strlen(s);
    char *copy = sh_malloc(len + 1);

    if (copy) memcpy(copy, s, len + 1);
    return copy;
}

void sh_mem_fill_soon(void *p, size_t bytes)
{
    (void)p; // guarded blocks are small
    (void)bytes;
}

size_t sh_mem_live_bytes(void)
{
    size_t n;

    pthread_mutex_lock(&g_lock);
    n = g_live_bytes;
    pthread_mutex_unlock(&g_lock);
    return n;
}

size_t sh_mem_peak_bytes(void)
{
    size_t n;

    pthread_mutex_lock(&g_lock);
    n = g_peak_bytes;
    pthread_mutex_unlock(&g_lock);
    return n;
}

void sh_mem_fail_after(int64_t n)
{
    pthread_mutex_lock(&g_lock);
    g_fail_in = n < 0 ? -1 : n;
    pthread_mutex_unlock(&g_lock);
}

bool sh_mem_fail_pending(void)
{
    bool pending;

    pthread_mutex_lock(&g_lock);
    pending = g_fail_in >= 0;
    pthread_mutex_unlock(&g_lock);
    return pending;
}
