/* net/tcp.c - TCP and Unix streams over non-blocking sockets and poll. */
#include "net/tcp.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 4
#define IOV_MAX_USED 64

struct tcp_stream {
    struct sh_stream head;
    int fd;
    _Atomic bool is_cut;
};

static struct tcp_stream *tcp_of(struct sh_stream *s)
{
    return (struct tcp_stream *)s;
}

static enum shoal_status fail_lost(struct tcp_stream *t, int sys_errno, const char *doing,
                                   struct shoal_error *err)
{
    if (atomic_load(&t->is_cut)) {
        return sh_fail(err, SHOAL_ERR_CANCELLED, "the connection to %s was cut from this side",
                       t->head.peer);
    }
    return sh_fail_errno(err, SHOAL_ERR_PEER, sys_errno, "%s: the connection was lost while %s",
                         t->head.peer, doing);
}

static void tcp_close(struct sh_stream *s)
{
    struct tcp_stream *t = tcp_of(s);

    (void)close(t->fd);
    sh_free(t);
}

static enum shoal_status tcp_read(struct sh_stream *s, void *dst, size_t n, size_t *got, bool *end,
                                  struct shoal_error *err)
{
    struct tcp_stream *t = tcp_of(s);
    ssize_t rc;

    *got = 0;
    *end = false;
    do {
        rc = recv(t->fd, dst, n, 0);
    } while (rc < 0 && errno == EINTR);
    if (rc > 0) {
        *got = (size_t)rc;
        return SHOAL_OK;
    }
    if (rc == 0) {
        if (atomic_load(&t->is_cut)) return fail_lost(t, 0, "receiving", err);
        *end = true;
        return SHOAL_OK;
    }
    if (errno == EAGAIN) return SHOAL_OK;
    return fail_lost(t, errno, "receiving", err);
}

static enum shoal_status tcp_writev(struct sh_stream *s, const struct iovec *v, int n, size_t *put,
                                    struct shoal_error *err)
{
    struct tcp_stream *t = tcp_of(s);
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)v,
                         .msg_iovlen = (size_t)(n < IOV_MAX_USED ? n : IOV_MAX_USED)};
    ssize_t rc;

    *put = 0;
    do {
        rc = sendmsg(t->fd, &msg, MSG_NOSIGNAL);
    } while (rc < 0 && errno == EINTR);
    if (rc >= 0) {
        *put = (size_t)rc;
        return SHOAL_OK;
    }
    if (errno == EAGAIN) return SHOAL_OK;
    return fail_lost(t, errno, "sending", err);
}

/* poll() of one descriptor with a time in nanoseconds; 0 when the time ran out. */
static int poll_one(int fd, short events, int64_t timeout_ns, short *revents)
{
    struct pollfd p = {.fd = fd, .events = events};
    struct timespec ts = {.tv_sec = (time_t)(timeout_ns / SH_SECOND),
                          .tv_nsec = (long)(timeout_ns % SH_SECOND)};
    int rc = ppoll(&p, 1, timeout_ns == SH_NO_DEADLINE ? NULL : &ts, NULL);

    *revents = p.revents;
    return rc;
}

static enum shoal_status tcp_wait(struct sh_stream *s, enum sh_stream_event event,
                                  int64_t timeout_ns, struct shoal_error *err)
{
    struct tcp_stream *t = tcp_of(s);
    short revents;
    int rc = poll_one(t->fd, event == SH_STREAM_READABLE ? POLLIN : POLLOUT, timeout_ns, &revents);

    if (atomic_load(&t->is_cut)) return fail_lost(t, 0, "waiting", err);
    if (rc > 0 || (rc < 0 && errno == EINTR)) return SHOAL_OK;
    if (rc < 0) return fail_lost(t, errno, "waiting", err);
    return sh_fail(err, SHOAL_ERR_TIMEOUT, "%s: nothing happened in time", s->peer);
}

static bool tcp_hung_up(struct sh_stream *s)
{
    short revents;

    if (atomic_load(&tcp_of(s)->is_cut)) return true;
    return poll_one(tcp_of(s)->fd, POLLRDHUP, 0, &revents) > 0;
}

static void tcp_cut(struct sh_stream *s)
{
    struct tcp_stream *t = tcp_of(s);

    atomic_store(&t->is_cut, true);
    (void)shutdown(t->fd, SHUT_RDWR);
}

static const struct sh_stream_ops g_tcp_ops = {
    .close = tcp_close,
    .read = tcp_read,
    .writev = tcp_writev,
    .wait = tcp_wait,
    .hung_up = tcp_hung_up,
    .cut = tcp_cut,
};

static bool set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0;
}

static bool set_options(int fd, const struct sh_address *peer, const struct sh_tcp_options *opt)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return false;
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return false;
    if (peer->sa.ss_family == AF_UNIX) return true; // both ends are here: nothing of the rest
    return set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1) && set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1) &&
           set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S) &&
           set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S) &&
           set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES) &&
           (opt->user_timeout_ms <= 0 ||
            set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, opt->user_timeout_ms)) &&
           (opt->unsent_max <= 0 || set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, opt->unsent_max));
}

enum shoal_status sh_tcp_adopt(struct sh_stream **out, int fd, const struct sh_address *peer,
                               const struct sh_tcp_options *opt, struct shoal_error *err)
{
    struct tcp_stream *t = NULL;
    enum shoal_status st;

    *out = NULL;
    if (!set_options(fd, peer, opt)) {
        st = sh_fail_errno(err, SHOAL_ERR_IO, errno, "cannot set the options of a socket");
        goto done;
    }
    t = sh_calloc(1, sizeof *t);
    if (!t) {
        st = sh_fail(err, SHOAL_ERR_NOMEM, "no memory for a connection");
        goto done;
    }
    t->head.ops = &g_tcp_ops;
    t->head.clock = &sh_clock_system;
    t->fd = fd;
    sh_address_format(peer, t->head.peer);
    *out = &t->head;
    st = SHOAL_OK;

done:
    if (st) (void)close(fd);
    return st;
}

/* Errno of connecting within the time, 0 when connected, ETIMEDOUT when it ran out. */
static int connect_until(int fd, const struct sh_address *a, int64_t end)
{
    int rc = connect(fd, (const struct sockaddr *)&a->sa, a->len);
    int failure = 0;
    socklen_t len = sizeof failure;

    if (rc == 0) return 0;
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    for (;;) {
        int64_t left = end == SH_NO_DEADLINE ? end : end - sh_now_ns(&sh_clock_system);
        short revents;
        if (left <= 0) return ETIMEDOUT;
        rc = poll_one(fd, POLLOUT, left, &revents);
        if (rc > 0) break;
        if (rc < 0 && errno != EINTR) return errno;
    }
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0) return errno;
    return failure;
}

enum shoal_status sh_tcp_connect(struct sh_stream **out, const struct sh_endpoint *ep,
                                 int64_t timeout_ns, const struct sh_tcp_options *opt,
                                 struct shoal_error *err)
{
    struct sh_address list[SH_ADDRESSES_MAX];
    int64_t end = sh_deadline_in(&sh_clock_system, timeout_ns);
    char text[SH_ADDRESS_TEXT_MAX] = "";
    int n, failure = 0;
    enum shoal_status st;

    *out = NULL;
    st = sh_address_resolve(list, &n, ep, false, err);
    if (st) return st;
    for (int i = 0; i < n; i++) {
        int fd = socket(list[i].sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        sh_address_format(&list[i], text);
        if (fd < 0) {
            failure = errno;
            continue;
        }
        failure = connect_until(fd, &list[i], end);
        if (failure == 0) return sh_tcp_adopt(out, fd, &list[i], opt, err);
        (void)close(fd);
    }
    st = sh_fail_errno(err, failure == ETIMEDOUT ? SHOAL_ERR_TIMEOUT : SHOAL_ERR_PEER, failure,
                       "cannot connect to %s", text);
    sh_error_set_peer(err, text);
    return st;
}
