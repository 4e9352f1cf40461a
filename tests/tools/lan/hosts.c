/* tools/lan/hosts.c - see hosts.h. */
#include "tools/lan/hosts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TX_QUEUE = 1000 }; /* packets that wait in a host, as before an Ethernet card */

static enum shoal_status failed(struct shoal_error *err, const char *what)
{
    return sh_fail_errno(err, SHOAL_ERR_IO, errno, "lan: %s", what);
}

/* ---- namespaces ----------------------------------------------------------------------------- */

static enum shoal_status write_file(const char *path, const char *text, struct shoal_error *err)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    enum shoal_status st = SHOAL_OK;

    if (fd < 0) return failed(err, path);
    if (write(fd, text, strlen(text)) < 0) st = failed(err, path);
    close(fd);
    return st;
}

// Be the root of a user namespace, which may do the rest.
static enum shoal_status become_root(struct shoal_error *err)
{
    const unsigned uid = geteuid(), gid = getegid();
    enum shoal_status st;
    char map[64];

    if (unshare(CLONE_NEWUSER) < 0) return failed(err, "no user namespace");
    st = write_file("/proc/self/setgroups", "deny", err);
    (void)snprintf(map, sizeof map, "0 %u 1\n", uid);
    if (!st) st = write_file("/proc/self/uid_map", map, err);
    (void)snprintf(map, sizeof map, "0 %u 1\n", gid);
    if (!st) st = write_file("/proc/self/gid_map", map, err);
    return st;
}

enum shoal_status lan_isolate(struct shoal_error *err)
{
    enum shoal_status st = geteuid() == 0 ? SHOAL_OK : become_root(err);

    if (!st && unshare(CLONE_NEWPID | CLONE_NEWNS) < 0) st = failed(err, "no namespaces");
    return st;
}

enum shoal_status lan_mount_proc(struct shoal_error *err)
{
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return failed(err, "mounts cannot be made private");
    if (mount("proc", "/proc", "proc", 0, NULL) < 0) return failed(err, "/proc cannot be mounted");
    return SHOAL_OK;
}

/* ---- interfaces ----------------------------------------------------------------------------- */

static enum shoal_status ask(int sock, unsigned long request, struct ifreq *r, const char *what,
                             struct shoal_error *err)
{
    return ioctl(sock, request, r) < 0 ? failed(err, what) : SHOAL_OK;
}

static void put_address(struct sockaddr *at, const char *text)
{
    struct sockaddr_in in = {.sin_family = AF_INET};

    (void)inet_pton(AF_INET, text, &in.sin_addr);
    memcpy(at, &in, sizeof in);
}

static enum shoal_status bring_up(int sock, const char *name, struct shoal_error *err)
{
    struct ifreq r = {.ifr_flags = 0};
    enum shoal_status st;

    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    st = ask(sock, SIOCGIFFLAGS, &r, name, err);
    r.ifr_flags |= IFF_UP;
    return st ? st : ask(sock, SIOCSIFFLAGS, &r, name, err);
}

static enum shoal_status configure(int sock, const char *name, const char *address, int mtu,
                                   struct shoal_error *err)
{
    struct ifreq r = {.ifr_flags = 0};
    enum shoal_status st;

    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    r.ifr_mtu = mtu;
    st = ask(sock, SIOCSIFMTU, &r, "the MTU cannot be set", err);
    r.ifr_qlen = TX_QUEUE;
    if (!st) st = ask(sock, SIOCSIFTXQLEN, &r, "the queue cannot be set", err);
    put_address(&r.ifr_addr, address);
    if (!st) st = ask(sock, SIOCSIFADDR, &r, "the address cannot be set", err);
    put_address(&r.ifr_addr, "255.255.255.0");
    if (!st) st = ask(sock, SIOCSIFNETMASK, &r, "the netmask cannot be set", err);
    return st ? st : bring_up(sock, name, err);
}

// A TUN device of the present namespace; *fd is its other end.
static enum shoal_status open_tun(int *fd, const char *name, struct shoal_error *err)
{
    struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};

    *fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) return failed(err, "/dev/net/tun");
    (void)snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    if (ioctl(*fd, TUNSETIFF, &r) < 0) return failed(err, "no TUN device");
    return SHOAL_OK;
}

// Up, with an address, and nobody at the other end.
static enum shoal_status add_dead_interface(int sock, struct shoal_error *err)
{
    int fd = -1;
    enum shoal_status st = open_tun(&fd, "bridge0", err);

    if (!st && ioctl(fd, TUNSETPERSIST, 1) < 0) st = failed(err, "TUNSETPERSIST");
    if (!st) st = configure(sock, "bridge0", "172.31.0.1", 1500, err);
    if (fd >= 0) close(fd);
    return st;
}

// In a new network namespace: the interfaces of host i.
static enum shoal_status add_interfaces(int i, int mtu, int *tun, struct shoal_error *err)
{
    const int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    enum shoal_status st;
    char address[32];

    if (sock < 0) return failed(err, "no socket");
    (void)snprintf(address, sizeof address, "10.77.0.%d", i + 1);
    st = bring_up(sock, "lo", err);
    if (!st) st = add_dead_interface(sock, err);
    if (!st) st = open_tun(tun, "eth0", err);
    if (!st) st = configure(sock, "eth0", address, mtu, err);
    close(sock);
    return st;
}

static enum shoal_status make_host(int i, int mtu, int *tun, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;
    int ns;

    if (unshare(CLONE_NEWNET) < 0) return failed(err, "no network namespace");
    ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (ns < 0) return failed(err, "/proc/self/ns/net");
    if (dup3(ns, LAN_FD_HOST + i, O_CLOEXEC) < 0) st = failed(err, "no descriptor");
    close(ns);
    return st ? st : add_interfaces(i, mtu, tun, err);
}

enum shoal_status lan_hosts_make(const struct lan_options *o, int *tun, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (int i = 0; i < o->n_hosts && !st; i++)
        st = make_host(i, o->mtu, &tun[i], err);
    if (!st && setns(LAN_FD_HOST, CLONE_NEWNET) < 0) st = failed(err, "setns");
    return st;
}

/* ---- from other processes ------------------------------------------------------------------- */

static enum shoal_status map_shared(struct lan_shared **out, int fd, struct shoal_error *err)
{
    void *p = mmap(NULL, sizeof **out, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED) return failed(err, "shared memory");
    *out = p;
    return SHOAL_OK;
}

enum shoal_status lan_shared_make(struct lan_shared **out, struct shoal_error *err)
{
    const int fd = memfd_create("lan", MFD_CLOEXEC);
    enum shoal_status st = SHOAL_OK;

    if (fd < 0) return failed(err, "memfd_create");
    if (ftruncate(fd, sizeof **out) < 0) st = failed(err, "shared memory");
    if (!st && dup3(fd, LAN_FD_SHARED, O_CLOEXEC) < 0) st = failed(err, "no descriptor");
    if (!st) st = map_shared(out, fd, err);
    close(fd);
    return st;
}

static enum shoal_status open_of_first(int *fd, int number, int flags, struct shoal_error *err)
{
    char path[64];

    (void)snprintf(path, sizeof path, "/proc/1/fd/%d", number);
    *fd = open(path, flags | O_CLOEXEC);
    return *fd < 0 ? failed(err, path) : SHOAL_OK;
}

enum shoal_status lan_shared_open(struct lan_shared **out, struct shoal_error *err)
{
    int fd;
    enum shoal_status st = open_of_first(&fd, LAN_FD_SHARED, O_RDWR, err);

    if (st) return st;
    st = map_shared(out, fd, err);
    close(fd);
    return st;
}

enum shoal_status lan_host_enter(int i, struct shoal_error *err)
{
    int fd;
    enum shoal_status st = open_of_first(&fd, LAN_FD_HOST + i, O_RDONLY, err);

    if (st) return st;
    if (setns(fd, CLONE_NEWNET) < 0) st = failed(err, "setns");
    close(fd);
    return st;
}
