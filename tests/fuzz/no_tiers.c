/* tests/fuzz/no_tiers.c - stands in for the faster tiers of the kernels, which fuzz programs leave
 * out: what is asked to fill the table leaves the scalar kernels in it. */
struct sh_kernels;

#define TIER(name)                                                                                 \
    void name(struct sh_kernels *k);                                                               \
    void name(struct sh_kernels *k)                                                                \
    {                                                                                              \
        (void)k;                                                                                   \
    }

TIER(sh_vec_fill_avx2)
TIER(sh_vec_fill_avx512)
TIER(sh_mm_fill_avx2)
TIER(sh_mm_fill_avx512)
