/* tools/lan/lan.c - several hosts on one machine, joined by an emulated switch.
 *
 *     lan run [--hosts N] [--rtt TIME] [--rate RATE] [--queue BYTES] [--mtu BYTES] -- COMMAND...
 *
 * makes the hosts h1 .. hN (2) in network namespaces, where host i has the address 10.77.0.i, and
 * runs COMMAND in h1.  A packet takes half of TIME (0; 500us, 2ms) from host to host, and cables
 * carry RATE (without limit; 100mbit, 2.5gbit) both ways.  The exit code is the command's; 77 means
 * that this system does not let us, and the last line says why.  Within:
 *
 *     lan exec hN COMMAND...   run something on another host
 *     lan cut hN | lan join hN      nothing passes the cable of that host | again it does
 *     lan cut hN hM | lan join hN hM      the same between two of them only
 *     lan counts               packets, bytes and dropped packets so far
 *
 * Packets are forwarded by process 1 of a process namespace.  Whatever ends it (the command's end,
 * the outer process being killed) ends everything within and leaves nothing behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tools/lan/hosts.h"
#include "tools/lan/switch.h"

enum {
    EXIT_USAGE = 2,
    EXIT_SKIP = 77,
    EXIT_NO_COMMAND = 127,
    PACKET_MAX = 65536,
    TAKE_AT_ONCE = 64
};

static _Noreturn void die(int code, const struct shoal_error *err)
{
    printf("%s\n", err->message);
    fflush(stdout);
    _exit(code);
}

static _Noreturn void die_usage(const char *what)
{
    fprintf(stderr,
            "lan: %s\nusage: lan run [--hosts N] [--rtt TIME] [--rate RATE] [--queue BYTES] "
            "[--mtu BYTES] -- COMMAND...\n"
            "       lan exec hN COMMAND... | cut hN [hM] | join hN [hM] | counts\n",
            what);
    exit(EXIT_USAGE);
}

/* ---- forwarding ----------------------------------------------------------------------------- */

struct forwarder {
    struct lan_switch sw;
    int tun[LAN_HOSTS_MAX];
    int timer, signals, outer;
    pid_t command;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// 10.77.0.i to i - 1; -1 for what is not for a host.
static int destination(const struct forwarder *f, const uint8_t *p, ssize_t n)
{
    const int last =
        n >= 20 && p[0] >> 4 == 4 && p[16] == 10 && p[17] == 77 && p[18] == 0 ? p[19] : 0;

    return last >= 1 && last <= f->sw.o.n_hosts ? last - 1 : -1;
}

// Take what host `h` sends, as far as its cable allows.  *when: not before then again.
static bool take_from(struct forwarder *f, int h, int64_t *when)
{
    uint8_t packet[PACKET_MAX];

    for (int i = 0; i < TAKE_AT_ONCE; i++) {
        const int64_t now = now_ns();
        if (!lan_switch_takes(&f->sw, h, now, when)) return false;
        const ssize_t n = read(f->tun[h], packet, sizeof packet);
        if (n <= 0) return true;
        const int to = destination(f, packet, n);
        if (to >= 0) lan_switch_put(&f->sw, h, to, packet, (size_t)n, now);
    }
    return true;
}

static void deliver(struct forwarder *f, int h)
{
    const struct lan_packet *p;

    while ((p = lan_switch_first(&f->sw, h, now_ns())) != NULL) {
        if (write(f->tun[h], p->data, p->len) < 0) atomic_fetch_add(&f->sw.shared->dropped, 1);
        lan_switch_next(&f->sw, h);
    }
}

static void set_timer(const struct forwarder *f, int64_t due)
{
    struct itimerspec t = {.it_value = {.tv_sec = 0}}; // unset: never

    if (due < 1) due = 1;
    if (due != INT64_MAX) {
        t.it_value.tv_sec = due / 1000000000;
        t.it_value.tv_nsec = due % 1000000000;
    }
    timerfd_settime(f->timer, TFD_TIMER_ABSTIME, &t, NULL);
}

// Reap children.  True: the command is among them, and *code is how it ended.
static bool reap(const struct forwarder *f, int *code)
{
    bool ended = false;
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid != f->command) continue;
        ended = true;
        *code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return ended;
}

static int forward(struct forwarder *f)
{
    const int n = f->sw.o.n_hosts;
    struct pollfd p[LAN_HOSTS_MAX + 3];
    struct signalfd_siginfo info;
    uint64_t expired;
    int code = 1;

    p[n] = (struct pollfd){.fd = f->timer, .events = POLLIN};
    p[n + 1] = (struct pollfd){.fd = f->signals, .events = POLLIN};
    p[n + 2] = (struct pollfd){.fd = f->outer, .events = POLLIN};
    for (;;) {
        int64_t due = INT64_MAX, when;
        for (int h = 0; h < n; h++) {
            const bool idle = take_from(f, h, &when);
            p[h] = (struct pollfd){.fd = idle ? f->tun[h] : -1, .events = POLLIN};
            if (!idle && when < due) due = when;
        }
        for (int h = 0; h < n; h++)
            deliver(f, h);
        when = lan_switch_due(&f->sw);
        set_timer(f, when < due ? when : due);
        if (poll(p, (nfds_t)n + 3, -1) < 0 && errno != EINTR) return code;
        if (p[n].revents && read(f->timer, &expired, sizeof expired) < 0) expired = 0;
        if (p[n + 2].revents) return code; // the outer process is gone
        if (!p[n + 1].revents) continue;
        if (read(f->signals, &info, sizeof info) > 0 && reap(f, &code)) return code;
    }
}

/* ---- lan run -------------------------------------------------------------------------------- */

// Exact times also on a busy machine, where that is allowed; the command starts without it.
static void be_punctual(void)
{
    const struct sched_param param = {.sched_priority = 50};

    (void)sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &param);
}

static pid_t start_command(char **argv, const sigset_t *before)
{
    const pid_t pid = fork();

    if (pid != 0) return pid;
    sigprocmask(SIG_SETMASK, before, NULL);
    execvp(argv[0], argv);
    fprintf(stderr, "lan: %s cannot be started\n", argv[0]);
    _exit(EXIT_NO_COMMAND);
}

static _Noreturn void be_first_process(const struct lan_options *o, int outer, char **argv)
{
    struct forwarder *f = calloc(1, sizeof *f);
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct lan_shared *shared = NULL;
    sigset_t mask, before;
    enum shoal_status st;
    int code;

    if (!f) _exit(1);
    st = lan_mount_proc(&err);
    if (!st) st = lan_shared_make(&shared, &err);
    if (!st) st = lan_hosts_make(o, f->tun, &err);
    if (st) die(EXIT_SKIP, &err);
    lan_switch_init(&f->sw, o, shared);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, &before);
    f->outer = outer;
    f->signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    f->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    f->command = f->signals < 0 || f->timer < 0 ? -1 : start_command(argv, &before);
    if (f->command < 0) {
        (void)sh_fail_errno(&err, SHOAL_ERR_IO, errno, "lan: the command cannot be started");
        die(1, &err);
    }
    be_punctual();
    code = forward(f);
    lan_switch_release(&f->sw);
    free(f);
    _exit(code); // and the system ends all others
}

// A number and one of the units, "500us" with {"us", 1e3}.
static double parse(const char *option, const char *text, const char *const *units,
                    const double *factors)
{
    char *end;
    const double v = strtod(text, &end);

    for (int i = 0; units[i] && end != text && v >= 0 && v < 1e12; i++)
        if (strcmp(end, units[i]) == 0) return v * factors[i];
    fprintf(stderr, "lan: %s %s\n", option, text);
    die_usage("this value means nothing");
}

static int parse_options(struct lan_options *o, int argc, char **argv)
{
    static const char *const time_units[] = {"us", "ms", "s", NULL};
    static const char *const rate_units[] = {"kbit", "mbit", "gbit", NULL};
    static const char *const byte_units[] = {"", "kb", "mb", NULL};
    static const double ns[] = {1e3, 1e6, 1e9}, bits[] = {125, 125e3, 125e6},
                        bytes[] = {1, 1e3, 1e6};
    int i = 0;

    for (; i < argc && strcmp(argv[i], "--") != 0; i += 2) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(a, "--hosts") == 0) {
            o->n_hosts = (int)fmin(parse(a, v, &byte_units[0], bytes), 1e6);
        } else if (strcmp(a, "--rtt") == 0) {
            o->delay_ns = (int64_t)parse(a, v, time_units, ns) / 2;
        } else if (strcmp(a, "--rate") == 0) {
            o->rate = (int64_t)parse(a, v, rate_units, bits);
        } else if (strcmp(a, "--queue") == 0) {
            o->queue = (int64_t)parse(a, v, byte_units, bytes);
        } else if (strcmp(a, "--mtu") == 0) {
            o->mtu = (int)fmin(parse(a, v, byte_units, bytes), 1e6);
        } else {
            die_usage(a);
        }
    }
    if (o->n_hosts < 1 || o->n_hosts > LAN_HOSTS_MAX) die_usage("--hosts is 1 to 32");
    if (o->mtu < 576 || o->mtu > 65000) die_usage("--mtu is 576 to 65000");
    if (i + 1 >= argc) die_usage("which command?");
    return i + 1;
}

// Wait for the first process of the namespace; whoever ends us ends it.
static int wait_for(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(int argc, char **argv)
{
    struct lan_options o = {.n_hosts = 2, .queue = 1000000, .mtu = 1500};
    const int command = parse_options(&o, argc, argv);
    struct shoal_error err = SHOAL_ERROR_INIT;
    int life[2]; // its other end closes when this process ends, however it ends
    pid_t pid;

    fflush(stdout);
    if (lan_isolate(&err)) die(EXIT_SKIP, &err);
    if (pipe2(life, O_CLOEXEC) < 0) return 1;
    pid = fork();
    if (pid < 0) {
        (void)sh_fail_errno(&err, SHOAL_ERR_IO, errno, "lan: no process namespace");
        die(EXIT_SKIP, &err);
    }
    if (pid == 0) {
        close(life[1]);
        be_first_process(&o, life[0], argv + command);
    }
    close(life[0]);
    _exit(wait_for(pid)); // a leak checker cannot start its helper in this state
}

/* ---- within --------------------------------------------------------------------------------- */

static int host_number(int argc, char **argv)
{
    char *end = NULL;
    const long n = argc > 0 && argv[0][0] == 'h' ? strtol(argv[0] + 1, &end, 10) : 0;

    if (n < 1 || n > LAN_HOSTS_MAX || *end) die_usage("which host? h1, h2 ...");
    return (int)n - 1;
}

static int exec_on(int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int h = host_number(argc, argv);

    if (argc < 2) die_usage("which command?");
    if (lan_host_enter(h, &err)) die(1, &err);
    execvp(argv[1], argv + 1);
    fprintf(stderr, "lan: %s cannot be started\n", argv[1]);
    return EXIT_NO_COMMAND;
}

static int set_cut(int argc, char **argv, bool cut)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    const int h = host_number(argc, argv);
    struct lan_shared *shared;

    if (lan_shared_open(&shared, &err)) die(1, &err);
    if (argc > 1) {
        const int other = host_number(argc - 1, argv + 1);
        atomic_store(&shared->apart[h][other], cut);
        atomic_store(&shared->apart[other][h], cut);
    } else {
        atomic_store(&shared->cut[h], cut);
    }
    return 0;
}

static int show_counts(void)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct lan_shared *shared;

    if (lan_shared_open(&shared, &err)) die(1, &err);
    printf("%lld packets %lld bytes %lld dropped\n", (long long)atomic_load(&shared->packets),
           (long long)atomic_load(&shared->bytes), (long long)atomic_load(&shared->dropped));
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "run") == 0) return run(argc - 2, argv + 2);
    if (strcmp(verb, "exec") == 0) return exec_on(argc - 2, argv + 2);
    if (strcmp(verb, "cut") == 0) return set_cut(argc - 2, argv + 2, true);
    if (strcmp(verb, "join") == 0) return set_cut(argc - 2, argv + 2, false);
    if (strcmp(verb, "counts") == 0) return show_counts();
    die_usage("what is to be done?");
}
