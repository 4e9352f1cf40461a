/* rpc/conn_rules.c - which messages belong to a purpose, and which to a feature.
 *
 * One row per message; a message without one is of CONTROL and needs nothing.  Weights travel on a
 * connection of their own where both ends have that feature, and on CONTROL where not.
 */
#include "rpc/conn_priv.h"

enum {
    CONTROL = 1 << SH_RPC_FOR_CONTROL,
    DATA = 1 << SH_RPC_FOR_DATA,
    LINK = 1 << SH_RPC_FOR_LINK,
    SUMS = 1 << SH_RPC_FOR_SUMS,
    ALL = CONTROL | DATA | LINK | SUMS,
    WEIGHTS = 1 << 8 /* DATA, or CONTROL where there is no such connection */
};

struct rule {
    uint16_t type, purposes;
    uint32_t any_of; /* features, one of which must be agreed; 0: none */
};

static const struct rule RULES[] = {
    {SH_RPC_MSG_ERROR, ALL, 0},
    {SH_RPC_MSG_BEAT, ALL, 0},
    {SH_RPC_MSG_BYE, ALL, 0},
    {SH_RPC_MSG_PROBE, ALL, 0},
    {SH_RPC_MSG_PROBED, ALL, 0},
    {SH_RPC_MSG_RESUME, CONTROL, SH_RPC_RESUME},
    {SH_RPC_MSG_RESUMED, CONTROL, SH_RPC_RESUME},
    {SH_RPC_MSG_ATTACH, DATA, SH_RPC_DATA},
    {SH_RPC_MSG_ATTACHED, DATA, SH_RPC_DATA},
    {SH_RPC_MSG_WANT, WEIGHTS, 0},
    {SH_RPC_MSG_MISSING, WEIGHTS, 0},
    {SH_RPC_MSG_PUT, WEIGHTS, 0},
    {SH_RPC_MSG_PUT_END, WEIGHTS, 0},
    {SH_RPC_MSG_PUT_DONE, WEIGHTS, 0},
    {SH_RPC_MSG_PROGRESS, CONTROL | DATA, 0},
    {SH_RPC_MSG_HIDDEN, CONTROL | LINK, 0},
    {SH_RPC_MSG_CANCELLED, LINK | SUMS, SH_RPC_CANCELS},
    {SH_RPC_MSG_LINK_EXPECT, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_EXPECTED, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_OPEN, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_OPENED, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_HELLO, LINK | SUMS, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_WELCOME, LINK | SUMS, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_ACK, LINK | SUMS, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_DOWN, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_CLOSE, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_CLOSED, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_PROBE, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_LINK_PROBED, CONTROL, SH_RPC_LINKS | SH_RPC_SUMS},
    {SH_RPC_MSG_SUM, SUMS, SH_RPC_SUMS},
};

static const char *const PURPOSES[SH_RPC_PURPOSE_COUNT] = {"CONTROL", "DATA", "LINK", "SUMS"};

static struct rule rule_of(uint32_t type)
{
    for (size_t i = 0; i < sizeof RULES / sizeof RULES[0]; i++) {
        if (RULES[i].type == type) return RULES[i];
    }
    return (struct rule){.type = (uint16_t)type, .purposes = CONTROL};
}

uint64_t sh_conn_purpose_needs(enum sh_rpc_purpose purpose)
{
    switch (purpose) {
    case SH_RPC_FOR_DATA:
        return SH_RPC_DATA;
    case SH_RPC_FOR_LINK:
        return SH_RPC_LINKS;
    case SH_RPC_FOR_SUMS:
        return SH_RPC_SUMS;
    default:
        return 0;
    }
}

/* OK, or why such a message has no place here. */
static enum shoal_status judge(const struct sh_rpc_peer *p, uint32_t type, struct shoal_error *err)
{
    const struct rule r = rule_of(type);
    uint32_t purposes = r.purposes;

    if (type == SH_RPC_MSG_HELLO || type == SH_RPC_MSG_WELCOME) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s after the greeting", sh_rpc_info(type)->name);
    }
    if (purposes == WEIGHTS) purposes = p->features & SH_RPC_DATA ? DATA : CONTROL;
    if (!(purposes & 1u << p->purpose)) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s does not belong on a connection for %s",
                       sh_rpc_info(type)->name, PURPOSES[p->purpose]);
    }
    if (r.any_of && !(r.any_of & p->features)) {
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s needs a feature that was not agreed",
                       sh_rpc_info(type)->name);
    }
    return SHOAL_OK;
}

void sh_conn_rules_init(struct sh_rpc_conn *c)
{
    for (uint32_t t = 0; t < SH_RPC_TYPE_COUNT; t++) {
        const struct sh_rpc_info *info = sh_rpc_info(t);
        if (!info) continue;
        if (!judge(&c->peer, t, NULL)) c->rules[t] |= SH_CONN_ALLOWED;
        if (info->answer) c->rules[info->answer] |= SH_CONN_ANSWER;
    }
}

enum shoal_status sh_conn_check_type(const struct sh_rpc_conn *c, uint32_t type,
                                     struct shoal_error *err)
{
    return c->rules[type] & SH_CONN_ALLOWED ? SHOAL_OK : judge(&c->peer, type, err);
}

/* ---- values ----------------------------------------------------------------------------------*/

static enum shoal_status need(const struct sh_rpc_peer *p, uint64_t feature, const char *message,
                              const char *field, int64_t value, struct shoal_error *err)
{
    if (p->features & feature) return SHOAL_OK;
    return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s: %s %lld needs a feature that was not agreed",
                   message, field, (long long)value);
}

static enum shoal_status check_format(const struct sh_rpc_peer *p, uint8_t format,
                                      const char *message, struct shoal_error *err)
{
    switch (format) {
    case SH_RPC_ROWS_F32:
        return SHOAL_OK;
    case SH_RPC_ROWS_F16:
        return need(p, SH_RPC_F16, message, "format", format, err);
    case SH_RPC_ROWS_Q8:
        return need(p, SH_RPC_Q8, message, "format", format, err);
    default:
        return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s: there is no format %u", message,
                       (unsigned)format);
    }
}

static enum shoal_status check_link_purpose(const struct sh_rpc_peer *p, uint8_t purpose,
                                            const char *message, struct shoal_error *err)
{
    if (purpose == SH_RPC_FOR_LINK) return need(p, SH_RPC_LINKS, message, "purpose", purpose, err);
    if (purpose == SH_RPC_FOR_SUMS) return need(p, SH_RPC_SUMS, message, "purpose", purpose, err);
    return sh_fail(err, SHOAL_ERR_ARG, "rpc: %s: purpose %u is no link's", message,
                   (unsigned)purpose);
}

static enum shoal_status check_slices(const struct sh_rpc_peer *p, const struct sh_rpc_weight *w,
                                      uint32_t n, const char *message, struct shoal_error *err)
{
    enum shoal_status st = SHOAL_OK;

    for (uint32_t i = 0; i < n && !st; i++) {
        if (w[i].axis != -1) st = need(p, SH_RPC_SLICES, message, "axis", w[i].axis, err);
    }
    return st;
}

enum shoal_status sh_conn_check_values(const struct sh_rpc_peer *p, uint32_t type, const void *msg,
                                       struct shoal_error *err)
{
    const struct sh_rpc_stage_put *put;
    const struct sh_rpc_route *route;
    const struct sh_rpc_want *want;
    enum shoal_status st;

    switch (type) {
    case SH_RPC_MSG_HIDDEN:
        return check_format(p, ((const struct sh_rpc_hidden *)msg)->format, "HIDDEN", err);
    case SH_RPC_MSG_ROUTE:
        route = msg;
        st = check_format(p, route->format, "ROUTE", err);
        if (!st && route->where == 1) st = need(p, SH_RPC_LINKS, "ROUTE", "where", 1, err);
        if (!st && route->where == 0 && route->reader.generation != 0)
            st = need(p, SH_RPC_RELAY, "ROUTE", "reader", route->reader.slot, err);
        return st;
    case SH_RPC_MSG_WANT:
        want = msg;
        return check_slices(p, want->weights, want->n_weights, "WANT", err);
    case SH_RPC_MSG_STAGE_PUT:
        put = msg;
        if (put->n_shards > 1) {
            st = need(p, SH_RPC_SUMS, "STAGE_PUT", "n_shards", put->n_shards, err);
            if (st) return st;
        }
        return check_slices(p, put->weights, put->n_weights, "STAGE_PUT", err);
    case SH_RPC_MSG_LINK_EXPECT:
        return check_link_purpose(p, ((const struct sh_rpc_link_expect *)msg)->purpose,
                                  "LINK_EXPECT", err);
    case SH_RPC_MSG_LINK_OPEN:
        return check_link_purpose(p, ((const struct sh_rpc_link_open *)msg)->purpose, "LINK_OPEN",
                                  err);
    default:
        return SHOAL_OK;
    }
}
