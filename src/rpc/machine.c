/* rpc/machine.c - see machine.h. */
#include "rpc/machine.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "blob/sha256.h"
#include "net/key.h"

#define BOOT_FILE "/proc/sys/kernel/random/boot_id"
#define BOOT_BYTES_MAX 256

enum shoal_status sh_rpc_random_id(uint8_t id[SH_RPC_ID_BYTES], struct shoal_error *err)
{
    struct sh_key k;
    const enum shoal_status st = sh_key_make(&k, err);

    if (!st) memcpy(id, k.bytes, SH_RPC_ID_BYTES);
    sh_key_wipe(&k);
    return st;
}

enum shoal_status sh_rpc_machine(uint8_t id[SH_RPC_ID_BYTES], struct shoal_error *err)
{
    struct sh_sha256 hash;
    char *text = NULL;
    size_t len = 0;
    enum shoal_status st;

    if (sh_read_file(&text, &len, BOOT_FILE, BOOT_BYTES_MAX, NULL) || len == 0) {
        sh_free(text);
        return sh_rpc_random_id(id, err);
    }
    st = sh_sha256_of(&hash, text, len, err);
    if (!st) memcpy(id, hash.bytes, SH_RPC_ID_BYTES);
    sh_free(text);
    return st;
}
