/* tests/fuzz/replay.c - runs a fuzz target once over each file it is given, and over each file of
 * each folder: for compilers without a fuzzer.
 *
 * The name of every file is printed before it runs, so that the last line names the one that
 * crashed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t g_n_files;

static int run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long size = -1;
    int failed = 1;

    if (f && fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size >= 0 && fseek(f, 0, SEEK_SET) == 0) bytes = malloc(size > 0 ? (size_t)size : 1);
    if (bytes && fread(bytes, 1, (size_t)size, f) == (size_t)size) {
        printf("%s\n", path);
        (void)fflush(stdout);
        (void)LLVMFuzzerTestOneInput(bytes, (size_t)size);
        g_n_files++;
        failed = 0;
    }
    if (failed) fprintf(stderr, "%s cannot be read\n", path);
    free(bytes);
    if (f) (void)fclose(f);
    return failed;
}

static int run_folder(const char *path)
{
    struct dirent **list;
    int failed = 0;
    const int n = scandir(path, &list, NULL, alphasort);

    if (n < 0) {
        fprintf(stderr, "%s cannot be read\n", path);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char name[4096];
        const int len = snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
        if (list[i]->d_name[0] != '.') {
            failed |= len > 0 && (size_t)len < sizeof name ? run_file(name) : 1;
        }
        free(list[i]);
    }
    free(list);
    return failed;
}

int main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++) {
        struct stat s;
        if (stat(argv[i], &s) == 0 && S_ISDIR(s.st_mode)) {
            failed |= run_folder(argv[i]);
        } else {
            failed |= run_file(argv[i]);
        }
    }
    printf("%zu files\n", g_n_files);
    return failed || g_n_files == 0;
}
