/* examples/generate.c - text from a model, on this machine or over workers:
 *
 *     generate model.gguf "The capital of France is" [host:port]...
 *
 *     cc generate.c $(pkg-config --cflags --libs shoal) -o generate
 */
#include <shoal/shoal.h>
#include <stdio.h>

static bool show(void *user, const char *text, size_t bytes)
{
    (void)user;
    return fwrite(text, 1, bytes, stdout) == bytes && fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
    struct shoal_options options = SHOAL_OPTIONS_INIT;
    struct shoal_params params = SHOAL_PARAMS_INIT;
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct shoal *session = NULL;
    enum shoal_status st;

    if (argc < 3) {
        fprintf(stderr, "usage: %s model.gguf prompt [host:port]...\n", argv[0]);
        return 2;
    }
    options.model_path = argv[1];
    options.workers = (const char *const *)(argv + 3);
    options.n_workers = argc - 3;
    params.n_predict = 32;
    params.temp = 0;

    st = shoal_open(&session, &options, &err);
    if (!st) st = shoal_generate(session, argv[2], &params, show, NULL, &err);
    if (st) {
        fprintf(stderr, "%s: %s\n", shoal_status_name(st), err.message);
    } else {
        printf("\n");
    }
    shoal_close(session);
    return st != SHOAL_OK;
}
