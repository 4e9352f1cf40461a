/* ggmlrpc/wire.c - records and messages, field by field in wire order. */
#include "ggmlrpc/wire.h"

#include <string.h>

static const struct sh_wire_command_info g_commands[SH_WIRE_COMMAND_COUNT] = {
#define X(name, number, fewest, most, answer) [number] = {#name, fewest, most, answer},
    SH_WIRE_COMMANDS(X)
#undef X
};

const struct sh_wire_command_info *sh_wire_command_info(unsigned command)
{
    return command < SH_WIRE_COMMAND_COUNT ? &g_commands[command] : NULL;
}

void sh_wire_tensor_put(struct sh_writer *w, const struct sh_wire_tensor *t)
{
    sh_write_u64(w, t->id);
    sh_write_u32(w, t->type);
    sh_write_u64(w, t->buffer);
    for (int i = 0; i < SH_WIRE_DIMS; i++)
        sh_write_u32(w, t->ne[i]);
    for (int i = 0; i < SH_WIRE_DIMS; i++)
        sh_write_u32(w, t->nb[i]);
    sh_write_u32(w, t->op);
    for (int i = 0; i < SH_WIRE_PARAMS; i++)
        sh_write_u32(w, (uint32_t)t->params[i]);
    sh_write_u32(w, t->flags);
    for (int i = 0; i < SH_WIRE_SRC; i++)
        sh_write_u64(w, t->src[i]);
    sh_write_u64(w, t->view_src);
    sh_write_u64(w, t->view_offs);
    sh_write_u64(w, t->data);
    sh_write_bytes(w, t->name, SH_WIRE_NAME_BYTES);
    sh_write_u32(w, (uint32_t)t->use_count);
}

void sh_wire_tensor_get(struct sh_reader *r, struct sh_wire_tensor *t)
{
    const uint8_t *name;

    t->id = sh_read_u64(r);
    t->type = sh_read_u32(r);
    t->buffer = sh_read_u64(r);
    for (int i = 0; i < SH_WIRE_DIMS; i++)
        t->ne[i] = sh_read_u32(r);
    for (int i = 0; i < SH_WIRE_DIMS; i++)
        t->nb[i] = sh_read_u32(r);
    t->op = sh_read_u32(r);
    for (int i = 0; i < SH_WIRE_PARAMS; i++)
        t->params[i] = (int32_t)sh_read_u32(r);
    t->flags = sh_read_u32(r);
    for (int i = 0; i < SH_WIRE_SRC; i++)
        t->src[i] = sh_read_u64(r);
    t->view_src = sh_read_u64(r);
    t->view_offs = sh_read_u64(r);
    t->data = sh_read_u64(r);
    name = sh_read_bytes(r, SH_WIRE_NAME_BYTES);
    memset(t->name, 0, sizeof t->name);
    if (name) memcpy(t->name, name, SH_WIRE_NAME_BYTES - 1);
    t->use_count = (int32_t)sh_read_u32(r);
}

void sh_wire_request_put(struct sh_writer *w, enum sh_wire_command command,
                         const struct sh_wire_request *rq, uint64_t more)
{
    sh_write_u8(w, (uint8_t)command);
    sh_write_u64(w, g_commands[command].bytes_min + more);
    switch (command) {
    case SH_WIRE_ALLOC_BUFFER:
        sh_write_u32(w, rq->device);
        sh_write_u64(w, rq->size);
        break;
    case SH_WIRE_GET_ALIGNMENT:
    case SH_WIRE_GET_MAX_SIZE:
    case SH_WIRE_GET_DEVICE_MEMORY:
    case SH_WIRE_GRAPH_COMPUTE:
    case SH_WIRE_GRAPH_RECOMPUTE:
        sh_write_u32(w, rq->device);
        break;
    case SH_WIRE_BUFFER_GET_BASE:
    case SH_WIRE_FREE_BUFFER:
        sh_write_u64(w, rq->buffer);
        break;
    case SH_WIRE_BUFFER_CLEAR:
        sh_write_u64(w, rq->buffer);
        sh_write_u8(w, rq->value);
        break;
    case SH_WIRE_SET_TENSOR:
        sh_wire_tensor_put(w, &rq->tensor);
        sh_write_u8(w, rq->value);
        sh_write_u64(w, rq->offset);
        break;
    case SH_WIRE_SET_TENSOR_HASH:
        sh_wire_tensor_put(w, &rq->tensor);
        sh_write_u64(w, rq->offset);
        sh_write_u64(w, rq->hash);
        break;
    case SH_WIRE_GET_TENSOR:
        sh_wire_tensor_put(w, &rq->tensor);
        sh_write_u64(w, rq->offset);
        sh_write_u64(w, rq->size);
        break;
    case SH_WIRE_COPY_TENSOR:
        sh_wire_tensor_put(w, &rq->tensor);
        sh_wire_tensor_put(w, &rq->dst);
        break;
    case SH_WIRE_INIT_TENSOR:
        sh_wire_tensor_put(w, &rq->tensor);
        break;
    case SH_WIRE_GET_ALLOC_SIZE:
        sh_write_u32(w, rq->device);
        sh_wire_tensor_put(w, &rq->tensor);
        for (int i = 0; i < SH_WIRE_SRC; i++)
            sh_wire_tensor_put(w, &rq->src[i]);
        break;
    case SH_WIRE_HELLO:
        sh_write_bytes(w, rq->caps, SH_WIRE_CAPS_BYTES);
        break;
    case SH_WIRE_MEMSET_TENSOR:
        sh_wire_tensor_put(w, &rq->tensor);
        sh_write_u64(w, rq->offset);
        sh_write_u64(w, rq->size);
        sh_write_u8(w, rq->value);
        break;
    case SH_WIRE_DEVICE_COUNT:
    case SH_WIRE_COMMAND_COUNT:
        break;
    }
}

static void get_caps(struct sh_reader *r, uint8_t *caps)
{
    const uint8_t *p = sh_read_bytes(r, SH_WIRE_CAPS_BYTES);

    if (p) memcpy(caps, p, SH_WIRE_CAPS_BYTES);
}

void sh_wire_request_get(struct sh_reader *r, enum sh_wire_command command,
                         struct sh_wire_request *rq)
{
    switch (command) {
    case SH_WIRE_ALLOC_BUFFER:
        rq->device = sh_read_u32(r);
        rq->size = sh_read_u64(r);
        break;
    case SH_WIRE_GET_ALIGNMENT:
    case SH_WIRE_GET_MAX_SIZE:
    case SH_WIRE_GET_DEVICE_MEMORY:
    case SH_WIRE_GRAPH_COMPUTE:
    case SH_WIRE_GRAPH_RECOMPUTE:
        rq->device = sh_read_u32(r);
        break;
    case SH_WIRE_BUFFER_GET_BASE:
    case SH_WIRE_FREE_BUFFER:
        rq->buffer = sh_read_u64(r);
        break;
    case SH_WIRE_BUFFER_CLEAR:
        rq->buffer = sh_read_u64(r);
        rq->value = sh_read_u8(r);
        break;
    case SH_WIRE_SET_TENSOR:
        sh_wire_tensor_get(r, &rq->tensor);
        rq->value = sh_read_u8(r);
        rq->offset = sh_read_u64(r);
        break;
    case SH_WIRE_SET_TENSOR_HASH:
        sh_wire_tensor_get(r, &rq->tensor);
        rq->offset = sh_read_u64(r);
        rq->hash = sh_read_u64(r);
        break;
    case SH_WIRE_GET_TENSOR:
        sh_wire_tensor_get(r, &rq->tensor);
        rq->offset = sh_read_u64(r);
        rq->size = sh_read_u64(r);
        break;
    case SH_WIRE_COPY_TENSOR:
        sh_wire_tensor_get(r, &rq->tensor);
        sh_wire_tensor_get(r, &rq->dst);
        break;
    case SH_WIRE_INIT_TENSOR:
        sh_wire_tensor_get(r, &rq->tensor);
        break;
    case SH_WIRE_GET_ALLOC_SIZE:
        rq->device = sh_read_u32(r);
        sh_wire_tensor_get(r, &rq->tensor);
        for (int i = 0; i < SH_WIRE_SRC; i++)
            sh_wire_tensor_get(r, &rq->src[i]);
        break;
    case SH_WIRE_HELLO:
        get_caps(r, rq->caps);
        break;
    case SH_WIRE_MEMSET_TENSOR:
        sh_wire_tensor_get(r, &rq->tensor);
        rq->offset = sh_read_u64(r);
        rq->size = sh_read_u64(r);
        rq->value = sh_read_u8(r);
        break;
    case SH_WIRE_DEVICE_COUNT:
    case SH_WIRE_COMMAND_COUNT:
        break;
    }
}

void sh_wire_answer_put(struct sh_writer *w, enum sh_wire_command command,
                        const struct sh_wire_answer *a)
{
    static const uint8_t no_caps[SH_WIRE_CAPS_BYTES];

    sh_write_u64(w, (uint64_t)g_commands[command].answer_bytes);
    switch (command) {
    case SH_WIRE_ALLOC_BUFFER:
        sh_write_u64(w, a->buffer);
        sh_write_u64(w, a->value);
        break;
    case SH_WIRE_GET_ALIGNMENT:
    case SH_WIRE_GET_MAX_SIZE:
    case SH_WIRE_BUFFER_GET_BASE:
    case SH_WIRE_GET_ALLOC_SIZE:
        sh_write_u64(w, a->value);
        break;
    case SH_WIRE_SET_TENSOR_HASH:
    case SH_WIRE_COPY_TENSOR:
        sh_write_u8(w, a->result);
        break;
    case SH_WIRE_GET_DEVICE_MEMORY:
        sh_write_u64(w, a->memory_free);
        sh_write_u64(w, a->memory_total);
        break;
    case SH_WIRE_HELLO:
        sh_write_u8(w, a->major);
        sh_write_u8(w, a->minor);
        sh_write_u8(w, a->patch);
        sh_write_u8(w, 0);
        sh_write_bytes(w, no_caps, sizeof no_caps);
        break;
    case SH_WIRE_DEVICE_COUNT:
        sh_write_u32(w, (uint32_t)a->value);
        break;
    default: // silent, or data
        break;
    }
}

void sh_wire_answer_get(struct sh_reader *r, enum sh_wire_command command, struct sh_wire_answer *a)
{
    switch (command) {
    case SH_WIRE_ALLOC_BUFFER:
        a->buffer = sh_read_u64(r);
        a->value = sh_read_u64(r);
        break;
    case SH_WIRE_GET_ALIGNMENT:
    case SH_WIRE_GET_MAX_SIZE:
    case SH_WIRE_BUFFER_GET_BASE:
    case SH_WIRE_GET_ALLOC_SIZE:
        a->value = sh_read_u64(r);
        break;
    case SH_WIRE_SET_TENSOR_HASH:
    case SH_WIRE_COPY_TENSOR:
        a->result = sh_read_u8(r);
        break;
    case SH_WIRE_GET_DEVICE_MEMORY:
        a->memory_free = sh_read_u64(r);
        a->memory_total = sh_read_u64(r);
        break;
    case SH_WIRE_HELLO:
        a->major = sh_read_u8(r);
        a->minor = sh_read_u8(r);
        a->patch = sh_read_u8(r);
        break;
    case SH_WIRE_DEVICE_COUNT:
        a->value = sh_read_u32(r);
        break;
    default:
        break;
    }
}
