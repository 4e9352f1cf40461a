/* base/mem.c - the heap behind base/mem.h.
 *
 *      raw          user - 64                user (aligned to 64)
 *      | padding ... | struct block, check ... | bytes ... |
 *
 * The header remembers the size, so that releasing needs none, and a check word that a write in
 * front of the block destroys.  Under AddressSanitizer the header is poisoned and the block ends
 * exactly where the raw allocation ends.  Counters are atomic; nothing else is shared.
 */
#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/error.h"
#include "base/sanitize_priv.h"

// From this size on zeroed blocks come from calloc, which knows that fresh pages are zero.
#define LAZY_ZERO_BYTES ((size_t)256 * 1024)
#define LARGE_PAGES_FROM ((size_t)4 << 20)
#define CHECK_LIVE UINT64_C(0x5348304c4d454d21)
#define CHECK_FREE UINT64_C(0x6672656564206f6b)

struct block {
    void *raw;
    size_t bytes;
    uint64_t check; // of the two above, while the block lives
};
_Static_assert(sizeof(struct block) <= SH_MEM_ALIGN, "the header fits in front of a block");

static _Atomic size_t g_live;
static _Atomic size_t g_peak;
static _Atomic int64_t g_fail_in = -1; // allocations until one fails; negative: never

static struct block *block_of(void *p)
{
    return (struct block *)(void *)((char *)p - SH_MEM_ALIGN);
}

static uint64_t check_of(const struct block *b)
{
    return CHECK_LIVE ^ (uint64_t)(uintptr_t)b->raw ^ ((uint64_t)b->bytes << 1);
}

/* Does the hook want this allocation to fail? */
static bool must_fail(void)
{
    int64_t left = atomic_load_explicit(&g_fail_in, memory_order_relaxed);

    while (left >= 0) {
        if (atomic_compare_exchange_weak(&g_fail_in, &left, left - 1)) return left == 0;
    }
    return false;
}

static void account(size_t bytes)
{
    const size_t live = atomic_fetch_add(&g_live, bytes) + bytes;
    size_t peak = atomic_load_explicit(&g_peak, memory_order_relaxed);

    while (live > peak && !atomic_compare_exchange_weak(&g_peak, &peak, live)) {
    }
}

static void *finish_block(void *raw, char *user, size_t bytes)
{
    struct block *b = block_of(user);

    b->raw = raw;
    b->bytes = bytes;
    b->check = check_of(b);
    sh_poison(b, SH_MEM_ALIGN);
    account(bytes);
    return user;
}

void *sh_malloc(size_t bytes)
{
    void *raw = NULL;
    size_t total;

    if (!sh_add_ok(bytes, SH_MEM_ALIGN, &total) || total > PTRDIFF_MAX || must_fail()) return NULL;
    if (posix_memalign(&raw, SH_MEM_ALIGN, total) != 0) return NULL;
    return finish_block(raw, (char *)raw + SH_MEM_ALIGN, bytes);
}

/* A large zeroed block whose pages the kernel need not touch before we do. */
static void *calloc_lazily(size_t bytes)
{
    size_t total, gap;
    char *raw;

    if (!sh_add_ok(bytes, 2 * SH_MEM_ALIGN, &total) || total > PTRDIFF_MAX || must_fail()) {
        return NULL;
    }
    raw = calloc(1, total);
    if (!raw) return NULL;
    gap = SH_MEM_ALIGN - (uintptr_t)raw % SH_MEM_ALIGN; // 1 .. 64
    return finish_block(raw, raw + gap + SH_MEM_ALIGN, bytes);
}

void *sh_calloc(size_t n, size_t bytes)
{
    size_t total;
    void *p;

    if (!sh_mul_ok(n, bytes, &total)) return NULL;
    if (!SH_ASAN && total >= LAZY_ZERO_BYTES) return calloc_lazily(total);
    p = sh_malloc(total);
    if (p) memset(p, 0, total);
    return p;
}

void *sh_realloc_array(void *p, size_t n, size_t bytes)
{
    size_t total, old;
    void *fresh;

    if (!sh_mul_ok(n, bytes, &total)) return NULL;
    fresh = sh_malloc(total);
    if (!fresh || !p) return fresh;
    sh_unpoison(block_of(p), SH_MEM_ALIGN);
    old = block_of(p)->bytes;
    memcpy(fresh, p, old < total ? old : total);
    sh_free(p);
    return fresh;
}

void sh_free(void *p)
{
    struct block *b;
    void *raw;

    if (!p) return;
    b = block_of(p);
    sh_unpoison(b, SH_MEM_ALIGN);
    SH_ASSERT(b->check == check_of(b));
    b->check = CHECK_FREE;
    raw = b->raw;
    atomic_fetch_sub(&g_live, b->bytes);
    free(raw);
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
#ifdef MADV_HUGEPAGE
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t gap = (page - (uintptr_t)p % page) % page;

    if (bytes < LARGE_PAGES_FROM) return;
    (void)madvise((char *)p + gap, (bytes - gap) / page * page, MADV_HUGEPAGE); // a wish
#else
    (void)p;
    (void)bytes;
#endif
}

/* glibc's heap learns from the first large block that is freed to keep blocks of up to 32 MB, in
 * as many heaps as eight per core.  Set values stop the learning. */
void sh_mem_give_back(void)
{
#ifdef __GLIBC__
    (void)mallopt(M_ARENA_MAX, 4);
    (void)mallopt(M_MMAP_THRESHOLD, (int)LAZY_ZERO_BYTES); // larger ones are mappings of their own
    (void)mallopt(M_TRIM_THRESHOLD, 128 * 1024);
#endif
}

size_t sh_mem_live_bytes(void)
{
    return atomic_load(&g_live);
}

size_t sh_mem_peak_bytes(void)
{
    return atomic_load(&g_peak);
}

bool sh_mem_fail_pending(void)
{
    return atomic_load(&g_fail_in) >= 0;
}

void sh_mem_fail_after(int64_t n)
{
    atomic_store(&g_fail_in, n < 0 ? -1 : n);
}
