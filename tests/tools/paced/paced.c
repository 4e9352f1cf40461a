/* tools/paced/paced.c - workers that compute as ever, but take a set time, on one machine.
 *
 *     paced N RUN_US ROW_US
 *
 * makes N workers on ports of loopback, each with a device of its own on which a step of T rows
 * takes RUN_US + T * ROW_US microseconds (device/paced.h), and prints their addresses in one line,
 * ready for --workers.  They end with SIGTERM or SIGINT.
 *
 * What many machines do together can so be measured on one, as long as what they really compute
 * fits into its processors several times over.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/thread.h"
#include "cpu/device.h"
#include "device/paced.h"
#include "host/serve.h"

enum { WORKERS_MAX = 16 };

struct one {
    struct sh_device *cpu, *paced;
    struct sh_worker *worker;
    struct sh_thread thread;
    bool runs;
};

static void *serve(void *arg)
{
    struct one *w = arg;
    struct shoal_error err = SHOAL_ERROR_INIT;

    if (sh_worker_run(w->worker, &err)) fprintf(stderr, "paced: %s\n", err.message);
    return NULL;
}

static enum shoal_status start(struct one *w, const struct sh_paced_options *pace,
                               struct shoal_error *err)
{
    const struct sh_cpu_options cpu = {.n_threads = 1};
    struct sh_worker_options opt = {
        .listen = "127.0.0.1:0", .n_threads = 1, .memory = (uint64_t)1 << 30};
    enum shoal_status st = sh_cpu_device_open(&w->cpu, &cpu, err);

    if (!st) st = sh_paced_device_open(&w->paced, w->cpu, pace, err);
    opt.device = w->paced;
    if (!st) st = sh_worker_open(&w->worker, &opt, err);
    if (!st) st = sh_thread_start(&w->thread, "worker", serve, w, err);
    w->runs = !st;
    return st;
}

static void end(struct one *w)
{
    if (w->runs) {
        sh_worker_stop(w->worker);
        sh_thread_join(&w->thread);
    }
    sh_worker_close(w->worker);
    sh_device_close(w->paced);
    sh_device_close(w->cpu);
}

int main(int argc, char **argv)
{
    const long n = argc == 4 ? strtol(argv[1], NULL, 10) : 0;
    struct sh_paced_options pace = {.run_ns = 0};
    struct one worker[WORKERS_MAX] = {{.cpu = NULL}};
    struct shoal_error err = SHOAL_ERROR_INIT;
    enum shoal_status st = SHOAL_OK;
    sigset_t ends;
    int signal;

    if (n < 1 || n > WORKERS_MAX) {
        fprintf(stderr, "usage: paced N RUN_US ROW_US, at most %d\n", WORKERS_MAX);
        return 2;
    }
    pace.run_ns = strtol(argv[2], NULL, 10) * 1000;
    pace.row_ns = strtol(argv[3], NULL, 10) * 1000;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigaddset(&ends, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL); // in all threads to come, too
    for (int i = 0; i < n && !st; i++)
        st = start(&worker[i], &pace, &err);
    if (st) fprintf(stderr, "paced: %s\n", err.message);
    for (int i = 0; i < n && !st; i++)
        printf("%s%s", i ? "," : "", sh_worker_listens(worker[i].worker));
    if (!st) {
        printf("\n");
        (void)fflush(stdout);
        (void)sigwait(&ends, &signal);
    }
    for (int i = 0; i < n; i++)
        end(&worker[i]);
    return st ? 1 : 0;
}
