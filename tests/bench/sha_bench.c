/* tests/bench/sha_bench.c - speed of hashing a model file's tensors, by threads.
 *
 *     sha_bench MODEL.gguf [threads...]
 *
 * Prints GB/s of the tensors' bytes, best of three, for 1, 2, 4, ... threads up to the processors
 * that there are, and one chain alone for comparison.  Each byte is hashed twice: for its tensor
 * and for its piece.  Time is the wall clock's, and the file should be in the page cache.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"
#include "blob/manifest.h"

static double seconds(void)
{
    return (double)sh_now_ns(&sh_clock_system) * 1e-9;
}

/* GB/s of one call over the largest tensor. */
static double chain_alone(const struct sh_gguf *g)
{
    const struct sh_gguf_tensor *t = sh_gguf_tensor(g, 0);
    double best = 0;

    for (size_t i = 1; i < sh_gguf_n_tensors(g); i++)
        if (sh_gguf_tensor(g, i)->data_bytes > t->data_bytes) t = sh_gguf_tensor(g, i);
    for (int round = 0; round < 3; round++) {
        const double start = seconds();
        struct sh_sha256 h;
        double rate;
        if (sh_sha256_of(&h, t->data, t->data_bytes, NULL)) return 0;
        rate = (double)t->data_bytes / (seconds() - start) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

static double all_tensors(const struct sh_gguf *g, int n_threads)
{
    const struct sh_manifest_options opt = {.n_threads = n_threads};
    double best = 0;

    for (int round = 0; round < 3; round++) {
        const double start = seconds();
        struct sh_manifest *m;
        double rate;
        if (sh_manifest_make(&m, g, &opt, NULL)) return 0;
        rate = (double)sh_manifest_bytes(m) / (seconds() - start) / 1e9;
        if (rate > best) best = rate;
        sh_manifest_destroy(m);
    }
    return best;
}

int main(int argc, char **argv)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_gguf *g = NULL;

    if (argc < 2) {
        fprintf(stderr, "usage: sha_bench MODEL.gguf [threads...]\n");
        return 2;
    }
    if (sh_gguf_open(&g, argv[1], &err) || sh_gguf_n_tensors(g) == 0) {
        fprintf(stderr, "%s\n", err.message[0] ? err.message : "no tensors");
        sh_gguf_close(g);
        return 1;
    }
    printf("threads  GB/s\n");
    printf("  chain  %4.2f\n", chain_alone(g));
    if (argc > 2) {
        for (int i = 2; i < argc; i++)
            printf("%7s  %4.2f\n", argv[i], all_tensors(g, (int)strtol(argv[i], NULL, 10)));
    } else {
        for (int n = 1; n <= sh_cpu_count(); n *= 2)
            printf("%7d  %4.2f\n", n, all_tensors(g, n));
    }
    sh_gguf_close(g);
    return 0;
}
