/* tools/lan/switch.h - an emulated Ethernet switch: when does which packet arrive?
 *
 * Every host has a cable of `rate` bytes per second both ways and of `delay_ns` length.  A packet
 * first takes its turn on the cable of its sender, then on that of its receiver, where packets of
 * all senders queue; a queue that is full drops what comes.  Time is an argument, in nanoseconds.
 * One thread.
 */
#ifndef TOOLS_LAN_SWITCH_H
#define TOOLS_LAN_SWITCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LAN_HOSTS_MAX = 32 };

struct lan_options {
    int n_hosts;
    int64_t delay_ns; /* one way */
    int64_t rate;     /* bytes per second; 0: without limit */
    int64_t queue;    /* bytes that wait for one cable, at most */
    int mtu;
};

/* What other processes see and change; in shared memory. */
struct lan_shared {
    atomic_bool cut[LAN_HOSTS_MAX];                  /* nothing passes this host's cable */
    atomic_bool apart[LAN_HOSTS_MAX][LAN_HOSTS_MAX]; /* nothing passes from the one to the other */
    atomic_llong packets, bytes, dropped;
};

struct lan_packet {
    int64_t due;
    size_t len;
    uint8_t *data;
};

struct lan_port {
    int64_t sent_ns, received_ns; /* the cable is busy until then, from and to the host */
    struct lan_packet *ring;      /* on the way to this host, first due first */
    size_t capacity, head, n;     /* capacity: a power of two */
};

struct lan_switch {
    struct lan_options o;
    struct lan_shared *shared; /* borrowed */
    struct lan_port port[LAN_HOSTS_MAX];
};

void lan_switch_init(struct lan_switch *s, const struct lan_options *o, struct lan_shared *shared);
void lan_switch_release(struct lan_switch *s);

/* May host `from` send now?  If not, *when says from when on. */
bool lan_switch_takes(const struct lan_switch *s, int from, int64_t now, int64_t *when);
/* A packet leaves host `from`; it is copied. */
void lan_switch_put(struct lan_switch *s, int from, int to, const uint8_t *data, size_t len,
                    int64_t now);
/* The packet that reached host `to` by now, or NULL; lan_switch_next() removes it. */
const struct lan_packet *lan_switch_first(const struct lan_switch *s, int to, int64_t now);
void lan_switch_next(struct lan_switch *s, int to);
/* When the next packet arrives anywhere; INT64_MAX: none is on the way. */
int64_t lan_switch_due(const struct lan_switch *s);

#endif
