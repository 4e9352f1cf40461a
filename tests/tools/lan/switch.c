/* tools/lan/switch.c - see switch.h.
 *
 * A host that sends faster than its cable is not made to lose packets: they stay in its own queue,
 * as before a real network card.  To keep the number of wake-ups small it may run ahead by AHEAD_NS
 * of cable time; the times of arrival are exact all the same.
 */
#include "tools/lan/switch.h"

#include <string.h>

#include "base/mem.h"

enum { AHEAD_NS = 200000, FIRST_CAPACITY = 256, PACKETS_MAX = 1 << 16 };

void lan_switch_init(struct lan_switch *s, const struct lan_options *o, struct lan_shared *shared)
{
    *s = (struct lan_switch){.o = *o, .shared = shared};
}

void lan_switch_release(struct lan_switch *s)
{
    for (int h = 0; h < s->o.n_hosts; h++) {
        while (s->port[h].n > 0)
            lan_switch_next(s, h);
        sh_free(s->port[h].ring);
    }
    *s = (struct lan_switch){.o = {.n_hosts = 0}};
}

bool lan_switch_takes(const struct lan_switch *s, int from, int64_t now, int64_t *when)
{
    *when = s->port[from].sent_ns - AHEAD_NS;
    return *when <= now;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static bool grow(struct lan_port *p)
{
    const size_t capacity = p->capacity ? 2 * p->capacity : FIRST_CAPACITY;
    struct lan_packet *ring;

    if (capacity > PACKETS_MAX) return false;
    ring = sh_calloc(capacity, sizeof *ring);
    if (!ring) return false;
    for (size_t i = 0; i < p->n; i++)
        ring[i] = p->ring[(p->head + i) & (p->capacity - 1)];
    sh_free(p->ring);
    p->ring = ring;
    p->capacity = capacity;
    p->head = 0;
    return true;
}

// False: there is no room.
static bool queue_packet(struct lan_port *p, int64_t due, const uint8_t *data, size_t len)
{
    struct lan_packet packet = {.due = due, .len = len};

    if (p->n == p->capacity && !grow(p)) return false;
    packet.data = sh_malloc(len);
    if (!packet.data) return false;
    memcpy(packet.data, data, len);
    p->ring[(p->head + p->n++) & (p->capacity - 1)] = packet;
    return true;
}

void lan_switch_put(struct lan_switch *s, int from, int to, const uint8_t *data, size_t len,
                    int64_t now)
{
    const int64_t ns = s->o.rate ? (int64_t)len * 1000000000 / s->o.rate : 0;
    const int64_t queue_ns = s->o.rate ? s->o.queue * 1000000000 / s->o.rate : INT64_MAX;
    struct lan_port *out = &s->port[from], *in = &s->port[to];
    int64_t begin;

    out->sent_ns = max64(now, out->sent_ns) + ns;
    begin = out->sent_ns - ns; // the first byte is passed on before the last has come
    if (atomic_load(&s->shared->cut[from]) || atomic_load(&s->shared->cut[to]) ||
        atomic_load(&s->shared->apart[from][to]) || in->received_ns - begin > queue_ns) {
        atomic_fetch_add(&s->shared->dropped, 1);
        return;
    }
    begin = max64(begin, in->received_ns);
    if (!queue_packet(in, begin + ns + s->o.delay_ns, data, len)) {
        atomic_fetch_add(&s->shared->dropped, 1);
        return;
    }
    in->received_ns = begin + ns;
    atomic_fetch_add(&s->shared->packets, 1);
    atomic_fetch_add(&s->shared->bytes, (long long)len);
}

const struct lan_packet *lan_switch_first(const struct lan_switch *s, int to, int64_t now)
{
    const struct lan_port *p = &s->port[to];

    if (p->n == 0 || p->ring[p->head].due > now) return NULL;
    return &p->ring[p->head];
}

void lan_switch_next(struct lan_switch *s, int to)
{
    struct lan_port *p = &s->port[to];

    sh_free(p->ring[p->head].data);
    p->head = (p->head + 1) & (p->capacity - 1);
    p->n--;
}

int64_t lan_switch_due(const struct lan_switch *s)
{
    int64_t due = INT64_MAX;

    for (int h = 0; h < s->o.n_hosts; h++) {
        const struct lan_port *p = &s->port[h];
        if (p->n > 0 && p->ring[p->head].due < due) due = p->ring[p->head].due;
    }
    return due;
}
