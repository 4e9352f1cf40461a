/* Ranges of addresses, and which of them are this machine's. */
#include "net/network.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static struct sh_address address(const char *text)
{
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_address a;

    if (sh_address_parse(&a, text, &err)) fail_msg("%s", err.message);
    return a;
}

static void network__has_its_prefix(void **state)
{
    static const struct {
        const char *network, *address;
        bool has;
    } rows[] = {
        {"10.1.0.0/16", "10.1.255.255:1", true},
        {"10.1.0.0/16", "10.2.0.0:1", false},
        {"10.1.128.0/17", "10.1.128.1:1", true},
        {"10.1.128.0/17", "10.1.127.255:1", false},
        {"192.168.7.9", "192.168.7.9:1", true},
        {"192.168.7.9", "192.168.7.8:1", false},
        {"0.0.0.0/0", "8.8.8.8:1", true},
        {"0.0.0.0/0", "[::2]:1", false},
        {"fd00:7::/32", "[fd00:7:1::2]:1", true},
        {"fd00:7::/32", "[fd00:8::]:1", false},
        {"10.1.0.0/16", "[::ffff:10.1.2.3]:1", true},
        {"::/0", "10.1.2.3:1", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct sh_address a = address(rows[i].address);
        struct shoal_error err = SHOAL_ERROR_INIT;
        struct sh_network n;

        if (sh_network_parse(&n, rows[i].network, &err)) fail_msg("%s", err.message);
        if (sh_network_has(&n, &a) != rows[i].has)
            fail_msg("%s in %s: not %d", rows[i].address, rows[i].network, rows[i].has);
    }
}

static void network__refuses_what_is_none(void **state)
{
    static const char *const rows[] = {
        "",           "/8",  "10.1/16",     "10.1.0.0/33", "10.1.0.0/", "10.1.0.0/1x",
        "fd00::/129", "box", "10.1.0.1/16", "10.1.1.0/23 "};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_network n;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sh_network_parse(&n, rows[i], &err) != SHOAL_ERR_ARG)
            fail_msg("\"%s\" passes for a network", rows[i]);
    }
    assert_int_equal(sh_network_parse(&n, "10.1.0.1/16", &err), SHOAL_ERR_ARG);
    assert_string_equal(err.message, "network \"10.1.0.1/16\" has bits behind its first 16");
}

/* Nobody is asked for a name. */
static void address__in_numbers_only(void **state)
{
    static const char *const rows[] = {"localhost:1", "10.0.0.1", "box:50052", "[::1", ":1"};
    struct shoal_error err = SHOAL_ERROR_INIT;
    struct sh_address a = address("unix:/tmp/x");

    (void)state;
    assert_true(sh_address_is_loopback(&a));
    a = address("[::1]:7");
    assert_int_equal(sh_address_port(&a), 7);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (sh_address_parse(&a, rows[i], &err) != SHOAL_ERR_ARG)
            fail_msg("\"%s\" passes for an address in numbers", rows[i]);
    }
}

static void network__loopback_is_not_own(void **state)
{
    const struct sh_address v4 = address("127.0.0.1:1"), v6 = address("[::1]:1");
    const struct sh_address reserved = address("240.1.2.3:1"); // nobody's

    (void)state;
    assert_false(sh_network_is_own(&v4));
    assert_false(sh_network_is_own(&v6));
    assert_false(sh_network_is_own(&reserved));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(network__has_its_prefix),
        cmocka_unit_test(network__refuses_what_is_none),
        cmocka_unit_test(address__in_numbers_only),
        cmocka_unit_test(network__loopback_is_not_own),
    };
    return cmocka_run_group_tests_name("network", tests, NULL, NULL);
}
