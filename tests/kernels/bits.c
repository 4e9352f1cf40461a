/* tests/kernels/bits.c - see bits.h. */
#include "bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS_MAX = 128, NAME_MAX_BYTES = 32 };

struct row {
    char name[NAME_MAX_BYTES];
    uint32_t hash;
};

static struct row folded[ROWS_MAX];
static size_t n_folded;

static const struct row VECTOR[] = {{"add", 0xf4929b30},
                                    {"sub", 0x76498621},
                                    {"mul", 0xbb745c58},
                                    {"div", 0x2349f158},
                                    {"scale", 0x3e12f8c0},
                                    {"clamp", 0x79e71822},
                                    {"add_scaled", 0x19ca1e4e},
                                    {"relu", 0x3bbbd84f},
                                    {"sigmoid", 0x96c71010},
                                    {"silu", 0x819b1805},
                                    {"gelu", 0x13342352},
                                    {"gelu_erf", 0xc4fdebf9},
                                    {"gelu_quick", 0x150bc075},
                                    {"tanh", 0xdeb3ce79},
                                    {"exp", 0x8bd7c869},
                                    {"softplus", 0xa1eb8ff2},
                                    {"sqr", 0xb5025284},
                                    {"sqrt", 0x1fda633d},
                                    {"neg", 0xf26c64a0},
                                    {"abs", 0x712a14a0},
                                    {"swiglu", 0x5df5c8cb},
                                    {"geglu", 0x6cf4ec29},
                                    {"reglu", 0xe9326341},
                                    {"sum", 0xa2086d14},
                                    {"max", 0x2db826a6},
                                    {"dot", 0x66183a28},
                                    {"rms_norm", 0x0c6d72df},
                                    {"layer_norm", 0x9074e9f6},
                                    {"l2_norm", 0x85984c3d},
                                    {"soft_max", 0x5018660c},
                                    {"rope_norm", 0x6df467d0},
                                    {"rope_neox", 0xb76d4908},
                                    {"attn_block_f16", 0x53f24edd},
                                    {"attn_block_f32", 0x9d4ee192},
                                    {"attn_merge", 0x4c99373c},
                                    {"conv_run", 0x67d559e0},
                                    {"ssm_run", 0x6e958330}};
static const struct row MATRIX[] = {
    {"act f32", 0x0be733e9},       {"act f16", 0x6ffbb5f9},       {"act bf16", 0x12c7d3f4},
    {"act q8_0", 0x77ba3e51},      {"act q8_1", 0x55bf4a99},      {"act q8_K", 0x10c5505e},
    {"encode f32", 0x3e653764},    {"decode f32", 0x1c914634},    {"encode f16", 0x7d18b5ea},
    {"decode f16", 0x3098dca1},    {"encode q4_0", 0x8859fd38},   {"decode q4_0", 0xdb2d7b84},
    {"encode q4_1", 0x45c704fc},   {"decode q4_1", 0x8bd5e42f},   {"encode q5_0", 0x27eecd61},
    {"decode q5_0", 0x221dad80},   {"encode q5_1", 0x19f9b770},   {"decode q5_1", 0x73e2a971},
    {"encode q8_0", 0xf3c22186},   {"decode q8_0", 0x402b3238},   {"encode q2_K", 0x5e556e55},
    {"decode q2_K", 0xf6f1b533},   {"encode q3_K", 0xc4b1e9c4},   {"decode q3_K", 0x288e4ac5},
    {"encode q4_K", 0x5c24ffc3},   {"decode q4_K", 0x18b2a609},   {"encode q5_K", 0x23bfeb57},
    {"decode q5_K", 0x99f875d2},   {"encode q6_K", 0x093c4bad},   {"decode q6_K", 0x85818520},
    {"encode iq4_nl", 0x47dc46d2}, {"decode iq4_nl", 0x5850c538}, {"encode bf16", 0x950090fe},
    {"decode bf16", 0xceff2950},   {"encode mxfp4", 0x012b320a},  {"decode mxfp4", 0x75c48b6f},
    {"mm f32", 0x6179e9e0},        {"mm f16", 0x1fef6389},        {"mm bf16", 0x16ad0d64},
    {"mm q4_0", 0x03fc7164},       {"mm q4_1", 0x563d2f8d},       {"mm q5_0", 0x80c12c9f},
    {"mm q5_1", 0x89493046},       {"mm q8_0", 0x205b7dc2},       {"mm iq4_nl", 0x53d07cf0},
    {"mm mxfp4", 0x68169647},      {"mm q2_K", 0xc0ccfc15},       {"mm q3_K", 0xa831f94e},
    {"mm q4_K", 0xff762bac},       {"mm q5_K", 0x3a604c49},       {"mm q6_K", 0xebe5c21d}};

static const struct {
    const struct row *row;
    size_t n;
} LISTS[] = {
    [BITS_VECTOR] = {VECTOR, sizeof VECTOR / sizeof *VECTOR},
    [BITS_MATRIX] = {MATRIX, sizeof MATRIX / sizeof *MATRIX},
};

static struct row *row_of(const char *what, const char *name)
{
    char both[NAME_MAX_BYTES];
    size_t i;

    snprintf(both, sizeof both, "%s%s%s", what, *what ? " " : "", name);
    for (i = 0; i < n_folded; i++)
        if (strcmp(folded[i].name, both) == 0) return &folded[i];
    assert_true(n_folded < ROWS_MAX);
    memcpy(folded[i].name, both, sizeof both);
    folded[i].hash = 0x811c9dc5; // FNV-1a
    n_folded++;
    return &folded[i];
}

static void fold(struct row *row, const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        row->hash = (row->hash ^ p[i]) * 0x01000193;
}

void bits_fold_bytes(const char *what, const char *name, const void *p, size_t bytes)
{
    fold(row_of(what, name), p, bytes);
}

void bits_fold_f32(const char *what, const char *name, const float *x, size_t n)
{
    struct row *row = row_of(what, name);

    for (size_t i = 0; i < n; i++) {
        uint32_t u = 0x7fc00000;
        if (x[i] == x[i]) memcpy(&u, &x[i], sizeof u);
        fold(row, (const uint8_t[4]){u & 255, u >> 8 & 255, u >> 16 & 255, u >> 24}, 4);
    }
}

void bits_check(enum bits_list list)
{
    bool same = n_folded == LISTS[list].n;

    for (size_t i = 0; i < n_folded; i++) {
        const struct row *want = i < LISTS[list].n ? &LISTS[list].row[i] : NULL;
        const bool equal =
            want && strcmp(want->name, folded[i].name) == 0 && want->hash == folded[i].hash;
        if (!equal) printf("{\"%s\", 0x%08x},\n", folded[i].name, folded[i].hash);
        same = same && equal;
    }
    if (!same) fail_msg("%zu kernels of %zu; other bits: the rows above", n_folded, LISTS[list].n);
}
