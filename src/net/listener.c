/* net/listener.c - bind, listen, accept with a way out. */
#include "net/listener.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "net/unix_priv.h"

/* Clients wait here while others come in crowds; the system has a limit of its own. */
#define BACKLOG 1024

struct sh_listener {
    int fd, event_fd;
    struct sh_address address;
    char text[SH_ADDRESS_TEXT_MAX];
    struct stat file; // of a Unix socket
    bool has_file;
};

void sh_listener_close(struct sh_listener *l)
{
    if (!l) return;
    if (l->has_file) sh_unix_remove(&l->address, &l->file);
    if (l->fd >= 0) (void)close(l->fd);
    if (l->event_fd >= 0) (void)close(l->event_fd);
    sh_free(l);
}

const struct sh_address *sh_listener_address(const struct sh_listener *l)
{
    return &l->address;
}

const char *sh_listener_text(const struct sh_listener *l)
{
    return l->text;
}

/* A listening descriptor, or -1 with errno. */
static int listen_on(const struct sh_address *a)
{
    int on = 1, fd;

    if (a->sa.ss_family == AF_UNIX) return sh_unix_listen(a, BACKLOG);
    fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (const struct sockaddr *)&a->sa, a->len) < 0 || listen(fd, BACKLOG) < 0) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

enum shoal_status sh_listener_open(struct sh_listener **out, const struct sh_endpoint *ep,
                                   struct shoal_error *err)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    char text[SH_ADDRESS_TEXT_MAX] = "";
    struct sh_listener *l = NULL;
    enum shoal_status st;
    int n, failure = 0;

    *out = NULL;
    st = sh_address_resolve(list, &n, ep, true, err);
    if (st) return st;
    l = sh_calloc(1, sizeof *l);
    if (!l) return sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a listener");
    l->fd = -1;
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->event_fd < 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot make an event descriptor");
        goto done;
    }
    for (int i = 0; i < n && l->fd < 0; i++) {
        sh_address_format(&list[i], text);
        l->fd = listen_on(&list[i]);
        if (l->fd < 0) failure = errno;
    }
    if (l->fd < 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, failure, "cannot listen on %s", text);
        goto done;
    }
    l->address.len = sizeof l->address.sa;
    if (getsockname(l->fd, (struct sockaddr *)&l->address.sa, &l->address.len) < 0) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot tell the address of %s", text);
        goto done;
    }
    sh_address_format(&l->address, l->text);
    l->has_file = l->address.sa.ss_family == AF_UNIX && sh_unix_stat(&l->address, &l->file);
    *out = l;
    l = NULL;

done:
    sh_listener_close(l);
    return st;
}

void sh_listener_interrupt(struct sh_listener *l)
{
    const uint64_t one = 1;
    int saved = errno; // may run in a signal handler
    ssize_t rc = write(l->event_fd, &one, sizeof one);

    (void)rc; // full means that it is set already
    errno = saved;
}

/* Wait for a connection or the interrupt. */
static enum shoal_status wait_listener(struct sh_listener *l, int64_t end, struct shoal_error *err)
{
    for (;;) {
        struct pollfd p[2] = {{.fd = l->fd, .events = POLLIN},
                              {.fd = l->event_fd, .events = POLLIN}};
        int64_t left = end == SH_NO_DEADLINE ? end : end - sh_now_ns(&sh_clock_system);
        struct timespec ts;
        int rc;

        if (left < 0) left = 0;
        ts.tv_sec = (time_t)(left / SH_SECOND);
        ts.tv_nsec = (long)(left % SH_SECOND);
        rc = ppoll(p, 2, end == SH_NO_DEADLINE ? NULL : &ts, NULL);
        if (rc < 0 && errno == EINTR) continue;
        if (rc < 0) {
            return sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot wait for connections on %s",
                                 l->text);
        }
        if (p[1].revents) {
            return sh_fail(err, SHOAL_ERR_CANCELLED, "%s no longer takes connections", l->text);
        }
        if (rc == 0) return sh_fail(err, SHOAL_ERR_TIMEOUT, "no connection on %s", l->text);
        return SHOAL_OK;
    }
}

/* Failures of one connection that was gone before it was taken: try the next. */
static bool is_passing(int sys_errno)
{
    return sys_errno == EINTR || sys_errno == EAGAIN || sys_errno == ECONNABORTED ||
           sys_errno == EPROTO || sys_errno == ENETDOWN || sys_errno == EHOSTDOWN ||
           sys_errno == ENONET || sys_errno == EHOSTUNREACH || sys_errno == ENETUNREACH ||
           sys_errno == EPERM;
}

enum shoal_status sh_listener_accept(struct sh_listener *l, int64_t timeout_ns,
                                     const struct sh_tcp_options *opt, struct sh_stream **out,
                                     struct sh_address *peer, struct shoal_error *err)
{
    int64_t end = sh_deadline_in(&sh_clock_system, timeout_ns);

    *out = NULL;
    for (;;) {
        enum shoal_status st = wait_listener(l, end, err);
        int fd;
        if (st) return st;
        peer->len = sizeof peer->sa;
        fd = accept4(l->fd, (struct sockaddr *)&peer->sa, &peer->len, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) return sh_tcp_adopt(out, fd, peer, opt, err);
        if (is_passing(errno)) continue;
        return sh_fail_errno(err, SHOAL_ERR_LIMIT, errno, "cannot accept a connection on %s",
                             l->text);
    }
}
