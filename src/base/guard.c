/* base/guard.c - surviving files that shrink while they are mapped.
 *
 * A slot's `turn` is odd while its range is being changed, and the handler takes a range only if
 * the turn was even and unmoved around the reads.  The slot of the mapping that faulted cannot be
 * changing (its owner is using it), so it is always found.
 *
 * On a fault everything from the missing page to the mapping's end becomes zeros at once: a file
 * that lost its tail lost all of it, and a page-wise repair of a large mapping would run into the
 * kernel's limit of mappings.  The handler uses atomics, mmap and sigaction only.
 *
 * Other code of the process may install a handler after ours.  So each new mapping looks, and puts
 * ours in front again; what it finds becomes the handler that foreign faults are passed to.
 */
#include "base/guard_priv.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct sh_map_guard {
    atomic_uint turn;
    atomic_bool used;
    atomic_bool faulted;
    _Atomic uintptr_t start; // 0: none
    _Atomic size_t size;     // in whole pages
};
_Static_assert(ATOMIC_POINTER_LOCK_FREE == 2 && ATOMIC_BOOL_LOCK_FREE == 2, "for the handler");

// Process-wide, because signal handlers are.
static struct sh_map_guard g_slots[SH_GUARD_MAPS_MAX];
static pthread_mutex_t g_install_lock = PTHREAD_MUTEX_INITIALIZER; // for changing the two below
static struct sigaction g_earlier[2]; // the handler reads the one that is not being written
static atomic_uint g_i_earlier;
static _Atomic uintptr_t g_page_bytes;

/* Copy the range of a slot that is at rest; false if it is empty or changing. */
static bool slot_range(struct sh_map_guard *s, uintptr_t *start, size_t *size)
{
    const unsigned turn = atomic_load(&s->turn);

    *start = atomic_load(&s->start);
    *size = atomic_load(&s->size);
    return !(turn & 1u) && *start != 0 && atomic_load(&s->turn) == turn;
}

/* Make the rest of the mapping that holds `addr` readable as zeros. */
static bool repair(uintptr_t addr)
{
    const uintptr_t page = addr & ~(atomic_load(&g_page_bytes) - 1);

    for (int i = 0; i < SH_GUARD_MAPS_MAX; i++) {
        uintptr_t start;
        size_t size;

        if (!slot_range(&g_slots[i], &start, &size)) continue;
        if (addr < start || addr - start >= size) continue;
        atomic_store(&g_slots[i].faulted, true);
        // The bare system call: a wrapper (a sanitizer's, say) is not made for signal handlers.
        return syscall(SYS_mmap, page, size - (page - start), PROT_READ,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != -1;
    }
    return false;
}

/* Not ours: what would have happened without us. */
static void pass_on(int sig, siginfo_t *info, void *context)
{
    const struct sigaction *earlier = &g_earlier[atomic_load(&g_i_earlier) & 1u];
    const struct sigaction plain = {.sa_handler = SIG_DFL};

    if (earlier->sa_flags & SA_SIGINFO) {
        earlier->sa_sigaction(sig, info, context);
        return;
    }
    if (earlier->sa_handler == SIG_IGN && info->si_code <= 0) return; // sent, not a fault
    if (earlier->sa_handler != SIG_DFL && earlier->sa_handler != SIG_IGN) {
        earlier->sa_handler(sig);
        return;
    }
    (void)sigaction(sig, &plain, NULL);
    (void)raise(sig); // delivered when this handler returns
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
    const int saved = errno;

    // A positive code is a fault with an address; others were sent by a process.
    if (info->si_code <= 0 || !repair((uintptr_t)info->si_addr)) pass_on(sig, info, context);
    errno = saved;
}

/* Put our handler in front, unless it is there. */
static enum shoal_status install(struct shoal_error *err)
{
    struct sigaction act = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    struct sigaction now;
    enum shoal_status st = SHOAL_OK;

    (void)sigemptyset(&act.sa_mask);
    (void)pthread_mutex_lock(&g_install_lock);
    atomic_store(&g_page_bytes, (uintptr_t)sysconf(_SC_PAGESIZE));
    if (sigaction(SIGBUS, NULL, &now) != 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot read the action of SIGBUS");
        goto done;
    }
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus) goto done;
    // The earlier action is in place before ours can run.
    g_earlier[(atomic_load(&g_i_earlier) + 1) & 1u] = now;
    atomic_fetch_add(&g_i_earlier, 1);
    if (sigaction(SIGBUS, &act, NULL) != 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot install the mapping guard");
    }

done:
    (void)pthread_mutex_unlock(&g_install_lock);
    return st;
}

enum shoal_status sh_guard_add(struct sh_map_guard **out, const void *p, size_t size,
                               struct shoal_error *err)
{
    enum shoal_status st;
    uintptr_t page;

    *out = NULL;
    st = install(err);
    if (st) return st;
    page = atomic_load(&g_page_bytes);
    for (int i = 0; i < SH_GUARD_MAPS_MAX; i++) {
        struct sh_map_guard *s = &g_slots[i];

        if (atomic_exchange(&s->used, true)) continue;
        atomic_fetch_add(&s->turn, 1);
        atomic_store(&s->faulted, false);
        atomic_store(&s->start, (uintptr_t)p);
        atomic_store(&s->size, (size + page - 1) & ~(page - 1));
        atomic_fetch_add(&s->turn, 1);
        *out = s;
        return SHOAL_OK;
    }
    return sh_fail(err, SHOAL_ERR_LIMIT, "more than %d files are mapped", SH_GUARD_MAPS_MAX);
}

void sh_guard_remove(struct sh_map_guard *g)
{
    if (!g) return;
    atomic_fetch_add(&g->turn, 1);
    atomic_store(&g->start, 0);
    atomic_fetch_add(&g->turn, 1);
    atomic_store(&g->used, false);
}

bool sh_guard_faulted(const struct sh_map_guard *g)
{
    return g && atomic_load(&g->faulted);
}
