/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/keyset.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/hash.h"

/* What is put is found with its value, and nothing else is; the same name in another database is
 * another key. */
static void test_put_and_find(void **state)
{
    (void)state;
    struct keyset s;
    bool added;
    keyset_init(&s, 1 << 20, true);
    *keyset_put(&s, key_id_of(0, SLICE("a")), &added) = 1;
    assert_true(added);
    *keyset_put(&s, key_id_of(1, SLICE("a")), &added) = 2;
    assert_true(added);
    assert_int_equal(*keyset_put(&s, key_id_of(0, SLICE("a")), &added), 1);
    assert_false(added);
    assert_int_equal(*keyset_find(&s, key_id_of(1, SLICE("a"))), 2);
    assert_null(keyset_find(&s, key_id_of(2, SLICE("a"))));
    assert_false(keyset_next_range(&s));
    keyset_free(&s);
}

/* With far more keys than fit, the rounds together see each key exactly once, with its value, and
 * the set never grows beyond its memory. */
static void test_rounds(void **state)
{
    (void)state;
    enum { COUNT = 60000 };
    static unsigned char seen[COUNT];
    struct keyset s;
    int rounds = 0;
    char name[32];
    keyset_init(&s, 0, true);
    do {
        for (uint64_t i = 0; i < COUNT; i++) {
            bool added;
            struct key_id id =
                key_id_of(0, slice_of(name, (size_t)snprintf(name, sizeof(name), "%d", (int)i)));
            if (!keyset_covers(&s, id))
                continue;
            uint64_t *value = keyset_put(&s, id, &added);
            assert_true(added);
            if (value)
                *value = i;
        }
        assert_true(s.capacity * 24 <= 64 * 1024);
        for (uint64_t i = 0; i < COUNT; i++) {
            struct key_id id =
                key_id_of(0, slice_of(name, (size_t)snprintf(name, sizeof(name), "%d", (int)i)));
            uint64_t *value = keyset_find(&s, id);
            assert_int_equal(keyset_covers(&s, id), value != NULL);
            if (value) {
                assert_int_equal(*value, i);
                seen[i]++;
            }
        }
        rounds++;
    } while (keyset_next_range(&s));
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(seen[i], 1);
    assert_true(rounds > 20);
    keyset_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_find),
        cmocka_unit_test(test_rounds),
    };
    hash_key_init(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
