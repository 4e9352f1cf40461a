/* tests/ggmlrpc/scripted.c - valid answers to everything. */
#include "scripted.h"

#include <string.h>

#include "base/mem.h"

static bool receive(struct scripted *sc, void *dst, size_t n)
{
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);

    return sh_stream_read_full(sc->far, dst, n, &pace, NULL) == SHOAL_OK;
}

void scripted_send(struct scripted *sc, const void *bytes, size_t n)
{
    struct sh_pace pace = sh_pace_until(SH_NO_DEADLINE);

    (void)!sh_stream_write_full(sc->far, bytes, n, &pace, NULL);
}

void scripted_answer(struct scripted *sc, unsigned command, const struct sh_wire_answer *a)
{
    uint8_t bytes[SH_WIRE_ANSWER_BYTES_MAX];
    struct sh_writer w = sh_writer_over(bytes, sizeof bytes);

    sh_wire_answer_put(&w, (enum sh_wire_command)command, a);
    scripted_send(sc, bytes, w.pos);
}

void scripted_drain(struct scripted *sc)
{
    uint8_t byte;

    while (receive(sc, &byte, 1)) {
    }
}

void scripted_hold(struct scripted *sc)
{
    sh_mutex_lock(&sc->lock);
    while (!sc->let_go)
        (void)sh_cond_wait(&sc->changed, &sc->lock, SH_NO_DEADLINE);
    sh_mutex_unlock(&sc->lock);
}

void scripted_let_go(struct scripted *sc)
{
    sh_mutex_lock(&sc->lock);
    sc->let_go = true;
    sh_cond_broadcast(&sc->changed);
    sh_mutex_unlock(&sc->lock);
}

static void send_zeros(struct scripted *sc, uint64_t n)
{
    uint8_t header[8];
    struct sh_writer w = sh_writer_over(header, sizeof header);
    uint8_t *zeros = sh_calloc((size_t)n, 1);

    sh_write_u64(&w, n);
    scripted_send(sc, header, sizeof header);
    scripted_send(sc, zeros, (size_t)n);
    sh_free(zeros);
}

static void answer_default(struct scripted *sc, unsigned command, const struct sh_wire_request *rq)
{
    struct sh_wire_answer a = {
        .memory_free = 1000, .memory_total = 2000, .result = 1, .major = SH_WIRE_MAJOR};

    switch (command) {
    case SH_WIRE_ALLOC_BUFFER:
        a.buffer = ++sc->next_buffer;
        a.value = rq->size;
        break;
    case SH_WIRE_BUFFER_GET_BASE:
        a.value = rq->buffer << 44;
        break;
    case SH_WIRE_GET_ALIGNMENT:
        a.value = 32;
        break;
    case SH_WIRE_GET_MAX_SIZE:
        a.value = UINT64_MAX;
        break;
    case SH_WIRE_DEVICE_COUNT:
        a.value = 1;
        break;
    case SH_WIRE_GET_ALLOC_SIZE:
        a.value = sc->alloc_size;
        break;
    case SH_WIRE_GET_TENSOR:
        send_zeros(sc, rq->size);
        return;
    default:
        break;
    }
    if (sh_wire_command_info(command)->answer_bytes >= 0) scripted_answer(sc, command, &a);
}

static void note(struct scripted *sc, unsigned command, uint64_t size)
{
    if (sc->n_seen < SCRIPTED_SEEN_MAX) {
        sc->seen[sc->n_seen] = (uint8_t)command;
        sc->sizes[sc->n_seen++] = size;
    }
}

/* One command; false at the end of the connection. */
static bool serve_one(struct scripted *sc, struct sh_wire_request *rq)
{
    uint8_t header[SH_WIRE_REQUEST_HEADER];
    struct sh_reader r = sh_reader_over(header, sizeof header);
    enum scripted_action action = SCRIPTED_DEFAULT;
    unsigned command;
    uint64_t size;
    uint8_t *payload;
    bool ok;

    if (!receive(sc, header, sizeof header)) return false;
    command = sh_read_u8(&r);
    size = sh_read_u64(&r);
    payload = sh_malloc((size_t)size);
    ok = receive(sc, payload, (size_t)size);
    if (ok) {
        r = sh_reader_over(payload, (size_t)size);
        sh_wire_request_get(&r, (enum sh_wire_command)command, rq);
        note(sc, command, command == SH_WIRE_ALLOC_BUFFER ? rq->size : size);
        if (sc->hook) action = sc->hook(sc, command, rq, size);
        if (action == SCRIPTED_DEFAULT) answer_default(sc, command, rq);
    }
    sh_free(payload);
    return ok && action != SCRIPTED_HANG_UP;
}

static void *script_thread(void *arg)
{
    struct scripted *sc = arg;
    struct sh_wire_request *rq = sh_calloc(1, sizeof *rq);

    while (serve_one(sc, rq)) {
    }
    sh_free(rq);
    sh_stream_close(sc->far);
    return NULL;
}

void scripted_begin(struct scripted *sc, scripted_hook *hook)
{
    memset(sc, 0, sizeof *sc);
    sc->hook = hook;
    sh_mutex_init(&sc->lock);
    sh_cond_init(&sc->changed);
    assert_int_equal(sh_stream_pair(&sc->near, &sc->far, (size_t)64 << 10, NULL), SHOAL_OK);
    assert_int_equal(pthread_create(&sc->thread, NULL, script_thread, sc), 0);
}

void scripted_end(struct scripted *sc)
{
    assert_int_equal(pthread_join(sc->thread, NULL), 0);
    sh_cond_release(&sc->changed);
    sh_mutex_release(&sc->lock);
}

int scripted_count(struct scripted *sc, unsigned command)
{
    int n = 0;

    for (int i = 0; i < sc->n_seen; i++)
        n += sc->seen[i] == command;
    return n;
}
