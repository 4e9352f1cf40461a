/* tests/bench/fnv_bench.c - speed of FNV-1a over one and more inputs at once, on one thread.
 *
 *     fnv_bench [MiB of each input]
 *
 * Prints GB/s of all chains together, for 1, 2, 4, 6 and 8 inputs of equal length (8 run as six
 * and then two).  Time is the thread's own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fnv.h"
#include "base/mem.h"

enum { INPUTS_MAX = 8 };

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double gb_per_s(const uint8_t *bytes, size_t each, size_t n)
{
    double best = 0;

    for (int round = 0; round < 5; round++) {
        struct sh_fnv_chain c[INPUTS_MAX];
        const double start = seconds();
        double rate;
        for (size_t i = 0; i < n; i++) {
            c[i] =
                (struct sh_fnv_chain){.hash = SH_FNV_START, .at = bytes + i * each, .left = each};
        }
        sh_fnv_finish(c, n);
        rate = (double)each * (double)n / (seconds() - start) / 1e9;
        if (rate > best) best = rate;
    }
    return best;
}

int main(int argc, char **argv)
{
    static const size_t INPUTS[] = {1, 2, 4, 6, 8};
    const long mib = argc > 1 ? strtol(argv[1], NULL, 10) : 32;
    const size_t each = (size_t)(mib < 1 ? 1 : mib) << 20;
    uint8_t *bytes = sh_malloc(each * INPUTS_MAX);

    if (!bytes) return 1;
    for (size_t i = 0; i < each * INPUTS_MAX; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    printf("inputs  GB/s\n");
    for (size_t i = 0; i < sizeof INPUTS / sizeof INPUTS[0]; i++)
        printf("%6zu  %4.2f\n", INPUTS[i], gb_per_s(bytes, each, INPUTS[i]));
    sh_free(bytes);
    return 0;
}
