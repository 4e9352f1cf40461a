/* cpu/device.c - opening and closing the CPU device; its memory and buffers. */
#include "cpu/device.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cpu/device_priv.h"

#define ALIGNMENT 64
#define HUGE_PAGES_FROM ((size_t)4 << 20)

/* ---- memory ---------------------------------------------------------------------------------*/

enum shoal_status sh_cpu_memory_take(struct sh_cpu_device *d, uint8_t **out, size_t bytes,
                                     const char *what, struct shoal_error *err)
{
    size_t left;
    bool fits;
    uint8_t *p;

    *out = NULL;
    sh_mutex_lock(&d->lock);
    left = d->memory_max - d->memory_used;
    fits = bytes <= left;
    if (fits) d->memory_used += bytes;
    sh_mutex_unlock(&d->lock);
    p = fits ? sh_calloc(1, bytes) : NULL;
    if (!p) {
        if (fits) sh_cpu_memory_give(d, NULL, bytes);
        return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: %s needs %zu bytes, %zu of %zu are free", what,
                       bytes, left, d->memory_max);
    }
    sh_mem_fill_soon(p, bytes); // KV memory is another matter: cpu/pages_priv.h
    *out = p;
    return SHOAL_OK;
}

void sh_cpu_memory_give(struct sh_cpu_device *d, uint8_t *p, size_t bytes)
{
    sh_free(p);
    sh_mutex_lock(&d->lock);
    d->memory_used -= bytes;
    sh_mutex_unlock(&d->lock);
}

/* ---- buffers --------------------------------------------------------------------------------*/

static void buffer_free(struct sh_buffer *buffer)
{
    struct sh_cpu_buffer *b = sh_cpu_buffer_of(buffer);

    sh_cpu_pages_release(&b->pages);
    if (b->data && !b->imported)
        sh_cpu_memory_give(sh_cpu_device_of(b->head.device), b->data, b->head.bytes);
    sh_free(b);
}

static enum shoal_status buffer_alloc(struct sh_device *dev, struct sh_buffer **out, size_t bytes,
                                      enum sh_buffer_usage usage, struct shoal_error *err)
{
    static const char *const names[] = {[SH_BUFFER_WEIGHTS] = "a buffer of weights",
                                        [SH_BUFFER_CACHE] = "a buffer of KV memory",
                                        [SH_BUFFER_COMPUTE] = "a compute buffer"};
    struct sh_cpu_buffer *b = sh_calloc(1, sizeof *b);
    enum shoal_status st;

    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory for a buffer's record");
    b->head = (struct sh_buffer_head){.device = dev, .bytes = bytes};
    st = sh_cpu_memory_take(sh_cpu_device_of(dev), &b->data, bytes, names[usage], err);
    if (st) goto done;
    if (usage == SH_BUFFER_CACHE && bytes >= HUGE_PAGES_FROM && sh_cpu_pages_usable())
        st = sh_cpu_pages_init(&b->pages, b->data, bytes, err);
    if (st) goto done;
    *out = (struct sh_buffer *)(void *)b;
    b = NULL;

done:
    if (b) buffer_free((struct sh_buffer *)(void *)b);
    return st;
}

static enum shoal_status buffer_import(struct sh_device *dev, struct sh_buffer **out,
                                       const void *data, size_t bytes, const struct sh_map *map,
                                       struct shoal_error *err)
{
    struct sh_cpu_buffer *b = sh_calloc(1, sizeof *b);

    if (!b) return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory for a buffer's record");
    b->head = (struct sh_buffer_head){.device = dev, .bytes = bytes};
    b->data = (uint8_t *)(uintptr_t)data; // `imported` keeps everybody from writing
    b->map = map;
    b->imported = true;
    *out = (struct sh_buffer *)(void *)b;
    return SHOAL_OK;
}

/* ---- the device -----------------------------------------------------------------------------*/

static enum shoal_status info(struct sh_device *dev, struct sh_device_info *out,
                              struct shoal_error *err)
{
    struct sh_cpu_device *d = sh_cpu_device_of(dev);
    const size_t available = sh_memory_available();

    (void)err;
    (void)snprintf(out->name, sizeof out->name, "CPU");
    (void)snprintf(out->description, sizeof out->description, "%s", d->description);
    out->kind = SH_DEVICE_CPU;
    sh_mutex_lock(&d->lock);
    out->memory_free = d->memory_max - d->memory_used;
    sh_mutex_unlock(&d->lock);
    if (out->memory_free > available) out->memory_free = available;
    out->memory_total = d->memory_total;
    out->alignment = ALIGNMENT;
    out->buffer_bytes_max = d->memory_max;
    out->shoal_ops = true;
    out->exact = true;
    out->local = true;
    return SHOAL_OK;
}

/* "AMD EPYC, 2 threads, avx512" */
static void describe(struct sh_cpu_device *d, unsigned isa)
{
    char line[256], model[64] = "processor";
    FILE *f = fopen("/proc/cpuinfo", "re");

    while (f && fgets(line, sizeof line, f)) {
        char *value = strchr(line, ':');
        if (!value || strncmp(line, "model name", 10) != 0) continue;
        value += strspn(value, ": \t");
        value[strcspn(value, "\n")] = '\0';
        (void)snprintf(model, sizeof model, "%.63s", value);
        break;
    }
    if (f) (void)fclose(f);
    (void)snprintf(d->description, sizeof d->description, "%s, %d thread%s, %s", model,
                   sh_pool_threads(d->pool), sh_pool_threads(d->pool) == 1 ? "" : "s",
                   sh_isa_name(isa));
}

static void close_device(struct sh_device *dev)
{
    struct sh_cpu_device *d = sh_cpu_device_of(dev);

    sh_cpu_executor_stop(d);
    SH_ASSERT(!d->queues && d->memory_used == 0); // tear-down in the order of device.h
    sh_pool_destroy(d->pool);
    sh_cond_release(&d->work);
    sh_mutex_release(&d->lock);
    sh_free(d);
}

static const struct sh_device_ops cpu_ops = {.close = close_device,
                                             .info = info,
                                             .buffer_alloc = buffer_alloc,
                                             .buffer_import = buffer_import,
                                             .buffer_free = buffer_free,
                                             .queue_create = sh_cpu_queue_create,
                                             .queue_destroy = sh_cpu_queue_destroy,
                                             .prepare = sh_cpu_prepare,
                                             .exec_release = sh_cpu_exec_release,
                                             .exec_bytes = sh_cpu_exec_bytes,
                                             .write = sh_cpu_queue_write,
                                             .read = sh_cpu_queue_read,
                                             .fill = sh_cpu_queue_fill,
                                             .copy = sh_cpu_queue_copy,
                                             .write_tensor = sh_cpu_queue_write_tensor,
                                             .read_tensor = sh_cpu_queue_read_tensor,
                                             .submit = sh_cpu_queue_submit,
                                             .wait = sh_cpu_queue_wait,
                                             .cancel = sh_cpu_queue_cancel,
                                             .reset = sh_cpu_queue_reset,
                                             .quiesce = sh_cpu_queue_quiesce,
                                             .busy_ns = sh_cpu_queue_busy_ns};

static int usable_cpus(void)
{
    const int n = sh_cpu_count();

    return n < SH_POOL_THREADS_MAX ? n : SH_POOL_THREADS_MAX;
}

static void choose_kernels(struct sh_cpu_device *d, const struct sh_cpu_options *opt, unsigned *isa)
{
    if (opt->set_isa) {
        *isa = opt->isa & sh_isa_detect();
        sh_kernels_fill(&d->table, *isa);
        d->kernels = &d->table;
    } else {
        *isa = sh_isa_allowed();
        d->kernels = sh_kernels();
    }
}

enum shoal_status sh_cpu_device_open(struct sh_device **out, const struct sh_cpu_options *opt,
                                     struct shoal_error *err)
{
    const struct sh_cpu_options defaults = {.n_threads = 0};
    struct sh_cpu_device *d;
    enum shoal_status st;
    unsigned isa;

    *out = NULL;
    if (!opt) opt = &defaults;
    d = sh_calloc(1, sizeof *d);
    if (!d) return sh_fail(err, SHOAL_ERR_NOMEM, "CPU: no memory for the device's record");
    d->head.ops = &cpu_ops;
    atomic_init(&d->n_busy, 0);
    d->spins = sh_cpu_count() > 1;
    sh_mutex_init(&d->lock);
    sh_cond_init(&d->work);
    d->memory_max = opt->memory_max ? opt->memory_max : sh_memory_available();
    d->memory_total = opt->memory_max ? opt->memory_max : sh_memory_total();
    choose_kernels(d, opt, &isa);
    st = sh_pool_create(&d->pool, opt->n_threads ? opt->n_threads : usable_cpus(), err);
    if (st) goto done;
    describe(d, isa);
    st = sh_cpu_executor_start(d, err);
    if (st) goto done;
    *out = (struct sh_device *)(void *)d;
    d = NULL;

done:
    if (d) close_device((struct sh_device *)(void *)d);
    return st;
}
