/* cmd/interrupt.c - the one place with state that a signal handler must reach. */
#include "cmd/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct call {
    void (*fn)(void *arg);
    void *arg;
};

static struct {
    volatile sig_atomic_t count;
    volatile sig_atomic_t grace; // seconds, 0 = none
    volatile sig_atomic_t quiet;
    int fd;
    volatile struct call call; // changed with the signals blocked
} g_interrupt = {.fd = -1};

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

static void handle(int number)
{
    const int saved = errno;
    const uint64_t one = 1;

    (void)number;
    if (g_interrupt.count) _exit(SH_EXIT_INTERRUPTED);
    g_interrupt.count = 1;
    if (g_interrupt.grace) (void)alarm((unsigned)g_interrupt.grace);
    if (write(g_interrupt.fd, &one, sizeof one) < 0) {
        // the counter is full: it is readable already
    }
    if (g_interrupt.call.fn) g_interrupt.call.fn(g_interrupt.call.arg);
    errno = saved;
}

// The time after the first signal is over.
static void give_up(int number)
{
    static const char text[] = "shoal: interrupted; something did not end and was left\n";

    (void)number;
    if (!g_interrupt.quiet && write(STDERR_FILENO, text, sizeof text - 1) < 0) {
        // nobody listens
    }
    _exit(SH_EXIT_INTERRUPTED);
}

enum shoal_status sh_interrupt_install(struct shoal_error *err)
{
    struct sigaction act = {.sa_handler = handle};
    struct sigaction late = {.sa_handler = give_up};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    g_interrupt.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (g_interrupt.fd < 0)
        return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot make an event descriptor");
    (void)sigemptyset(&act.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)sigaction(signals[i], &act, NULL);
    (void)sigemptyset(&late.sa_mask);
    (void)sigaction(SIGALRM, &late, NULL);
    (void)sigaction(SIGPIPE, &ignore, NULL);
    return SHOAL_OK;
}

void sh_interrupt_call(void (*fn)(void *arg), void *arg)
{
    sigset_t block, before;

    (void)sigemptyset(&block);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)sigaddset(&block, signals[i]);
    (void)sigprocmask(SIG_BLOCK, &block, &before);
    g_interrupt.call.fn = fn;
    g_interrupt.call.arg = arg;
    if (fn && g_interrupt.count) fn(arg);
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
}

void sh_interrupt_set_grace(unsigned seconds)
{
    g_interrupt.grace = (sig_atomic_t)seconds;
}

void sh_interrupt_be_quiet(void)
{
    g_interrupt.quiet = 1;
}

bool sh_interrupted(void)
{
    return g_interrupt.count != 0;
}

int sh_interrupt_fd(void)
{
    return g_interrupt.fd;
}
