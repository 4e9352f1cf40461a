/* rpc/server_tell.c - what a worker says of itself: devices, figures, who is here. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "rpc/server_priv.h"

enum { OCCUPANTS_MAX = 1024 };

void sh_server_answer(struct sh_rpc_conn *c, enum sh_rpc_type type, uint32_t request,
                      const void *msg)
{
    // A connection that is lost is found out by who reads it.
    if (sh_rpc_conn_send(c, type, request, msg, NULL)) return;
}

/* ---- devices --------------------------------------------------------------------------------*/

struct texts {
    struct sh_device_info info;
    char name[64], description[96];
};

void sh_server_devices(struct sh_rpc_server *s, struct sh_rpc_conn *c, uint32_t request)
{
    struct sh_rpc_device list[SH_RPC_SERVER_DEVICES_MAX];
    struct texts texts[SH_RPC_SERVER_DEVICES_MAX];
    const size_t left = sh_ledger_left(s->opt.ledger);
    struct sh_rpc_devices_are answer = {.devices = list};
    struct shoal_error why = SHOAL_ERROR_INIT;

    for (int i = 0; i < s->opt.n_devices; i++) {
        struct texts *t = &texts[i];
        const enum shoal_status st = sh_device_info(s->opt.devices[i], &t->info, &why);
        if (st) {
            sh_rpc_conn_refuse(c, request, st, &why, 0, 0);
            return;
        }
        list[i] = (struct sh_rpc_device){
            .name = sh_rpc_text_clean(t->name, sizeof t->name, t->info.name),
            .description =
                sh_rpc_text_clean(t->description, sizeof t->description, t->info.description),
            .kind = (uint32_t)t->info.kind,
            .flags = (t->info.shoal_ops ? 1u : 0u) | (t->info.exact ? 2u : 0u),
            .memory_free = left < t->info.memory_free ? left : t->info.memory_free,
            .memory_total = t->info.memory_total,
            .threads = s->opt.n_threads ? s->opt.n_threads[i] : 0};
    }
    answer.n_devices = (uint32_t)s->opt.n_devices;
    sh_server_answer(c, SH_RPC_MSG_DEVICES_ARE, request, &answer);
}

/* ---- figures --------------------------------------------------------------------------------*/

void sh_rpc_server_stats(struct sh_rpc_server *s, struct sh_rpc_server_stats *out)
{
    sh_mutex_lock(&s->lock);
    *out = (struct sh_rpc_server_stats){.n_connections = s->n_connections,
                                        .n_sessions = s->n_sessions,
                                        .n_detached = s->n_detached,
                                        .n_ended = s->n_ended,
                                        .n_failed = s->n_failed,
                                        .steps = atomic_load(&s->steps),
                                        .memory_used = s->memory_used};
    sh_mutex_unlock(&s->lock);
}

/* An occupant with its texts, which outlive the lock. */
struct guest {
    struct sh_rpc_occupant o;
    char key[65], name[97], peer[SH_ADDRESS_TEXT_MAX];
};

static void describe(struct guest *g, const struct sh_session *s, int64_t now)
{
    const int64_t idle = (now - atomic_load(&s->heard_ns)) / SH_MS;

    g->o = (struct sh_rpc_occupant){
        .session = s->number,
        .key = sh_rpc_text_clean(g->key, sizeof g->key, s->key),
        .name = sh_rpc_text_clean(g->name, sizeof g->name, s->name),
        .peer = sh_rpc_text_clean(g->peer, sizeof g->peer, s->attached ? s->peer : ""),
        .memory = s->claimed,
        .steps = atomic_load(&s->steps),
        .age_s = (uint32_t)((now - s->opened_ns) / SH_SECOND),
        .idle_ms = idle < 0            ? 0
                   : idle > UINT32_MAX ? UINT32_MAX
                                       : (uint32_t)idle};
}

static uint32_t list_guests(struct sh_rpc_server *s, struct guest *guests, uint32_t most)
{
    const int64_t now = sh_now_ns(&sh_clock_system);
    uint32_t n = 0;

    sh_mutex_lock(&s->lock);
    for (const struct sh_session *at = s->sessions; at && n < most; at = at->next)
        describe(&guests[n++], at, now);
    sh_mutex_unlock(&s->lock);
    return n;
}

void sh_server_tell_stats(struct sh_rpc_server *s, struct sh_rpc_conn *c, uint32_t request)
{
    const uint32_t most = s->opt.sessions_max < OCCUPANTS_MAX ? (uint32_t)s->opt.sessions_max
                                                              : (uint32_t)OCCUPANTS_MAX;
    struct sh_arena arena = SH_ARENA_INIT;
    struct guest *guests = sh_arena_calloc(&arena, most, sizeof *guests);
    struct sh_rpc_occupant *list = sh_arena_calloc(&arena, most, sizeof *list);
    struct shoal_error why = SHOAL_ERROR_INIT;
    struct sh_rpc_server_stats f;

    sh_rpc_server_stats(s, &f);
    if (guests && list) {
        const int64_t up = sh_now_ns(&sh_clock_system) - s->began_ns;
        const struct sh_rpc_stat stats[] = {
            {sh_rpc_text_from("uptime_s"), (uint64_t)(up / SH_SECOND)},
            {sh_rpc_text_from("connections"), (uint64_t)f.n_connections},
            {sh_rpc_text_from("sessions"), (uint64_t)f.n_sessions},
            {sh_rpc_text_from("sessions_detached"), (uint64_t)f.n_detached},
            {sh_rpc_text_from("sessions_closed"), f.n_ended},
            {sh_rpc_text_from("sessions_failed"), f.n_failed},
            {sh_rpc_text_from("steps"), f.steps},
            {sh_rpc_text_from("memory_total"), sh_ledger_max(s->opt.ledger)},
            {sh_rpc_text_from("memory_free"), sh_ledger_left(s->opt.ledger)},
            {sh_rpc_text_from("memory_sessions"), f.memory_used},
        };
        struct sh_rpc_stats_are answer = {
            .stats = stats, .n_stats = sizeof stats / sizeof *stats, .sessions = list};
        answer.n_sessions = list_guests(s, guests, most);
        for (uint32_t i = 0; i < answer.n_sessions; i++)
            list[i] = guests[i].o;
        sh_server_answer(c, SH_RPC_MSG_STATS_ARE, request, &answer);
    } else {
        (void)sh_fail(&why, SHOAL_ERR_NOMEM, "no memory for the worker's figures");
        sh_rpc_conn_refuse(c, request, SHOAL_ERR_NOMEM, &why, 0, 0);
    }
    sh_arena_release(&arena);
}
