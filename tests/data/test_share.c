/* SPDX-License-Identifier: Apache-2.0 */
/* How ranks share an epoch, for every small number of batches, ranks and accumulated batches. */
#include "data/fixture.h"
#include "data/share.h"

#define MOST 40

/* All turns of all ranks from an origin on: counts how often each batch comes, checks that ranks agree on windows, and that
 * their numbers are those of the definition. */
static void go_through(light_share s, int seen[])
{
    int64_t turns = light_share_turns(&s), whole = s.size * s.run, own[8] = {0};
    for (int64_t turn = 0; turn < turns; turn++) {
        int64_t begin = s.origin + turn / s.run * whole, rest = s.total - begin;
        int64_t window = rest < whole ? rest : whole, with = 0, here = 0, mine = 0;
        for (int rank = 0; rank < s.size; rank++) {
            s.rank = rank;
            light_turn t = light_share_turn(&s, turn);
            assert_int_equal(light_share_turns(&s), turns);
            assert_int_equal(t.window, window);
            assert_int_equal(t.before, light_share_position(&s, turn));
            assert_int_equal(t.begins, turn % s.run == 0);
            assert_int_equal(t.last, turn + 1 == turns);
            assert_int_equal(t.ends, t.last || turn % s.run == s.run - 1);
            assert_int_equal(t.after, t.ends ? begin + window : light_share_position(&s, turn + 1));
            assert_int_equal(t.batch >= 0, t.done < t.mine);
            if (t.batch >= 0) {
                assert_in_range(t.batch, begin, begin + window - 1);
                assert_int_equal(t.batch, light_share_batch(&s, turn));
                if (!s.dealt) assert_int_equal((t.batch - begin) / s.run, rank);
                assert_int_equal(own[rank], turn); /* its batches come in its first turns */
                own[rank]++;
                seen[t.batch]++;
            }
            mine += t.mine;
            with += t.mine > 0;
            here += t.batch >= 0;
            assert_int_equal(rank < t.present, t.batch >= 0);
            if (rank < t.contributors) assert_true(t.mine > 0);
        }
        assert_int_equal(mine, window);
        s.rank = 0;
        light_turn t = light_share_turn(&s, turn);
        assert_int_equal(t.contributors, with);
        assert_int_equal(t.present, here);
        assert_true(t.batch >= 0); /* rank 0 always has one */
    }
    for (int rank = 0; rank < s.size; rank++) {
        s.rank = rank;
        assert_int_equal(light_share_batches(&s), own[rank]);
    }
    assert_int_equal(light_share_position(&s, turns), s.total);
}

static void each_batch_comes_once_in_its_window(void **state)
{
    (void)state;
    for (int64_t total = 0; total <= MOST; total++)
        for (int size = 1; size <= 8; size++)
            for (int64_t run = 1; run <= 4; run++) {
                int seen[MOST] = {0};
                go_through((light_share){.size = size, .run = run, .total = total}, seen);
                for (int64_t i = 0; i < total; i++) assert_int_equal(seen[i], 1);
            }
}

/* What has been seen at a window's end is all that comes before its position. */
static void any_other_size_goes_on_at_a_windows_end(void **state)
{
    (void)state;
    for (int64_t total = 0; total <= MOST; total++)
        for (int size = 1; size <= 8; size++)
            for (int64_t run = 1; run <= 4; run++)
                for (int64_t origin = 0; origin <= total; origin += size * run)
                    for (int next = 1; next <= 8; next += 1 + next % 2) {
                        int seen[MOST] = {0};
                        go_through((light_share){.size = next, .run = run, .origin = origin, .total = total},
                                   seen);
                        for (int64_t i = 0; i < total; i++) assert_int_equal(seen[i], i >= origin);
                    }
}

/* use_distributed_sampler false: as many for each rank, whatever is left for the last window. */
static void dealt_batches_are_as_many_for_each_rank(void **state)
{
    (void)state;
    for (int64_t each = 0; each <= MOST / 8; each++)
        for (int size = 1; size <= 8; size++)
            for (int64_t run = 1; run <= 4; run++) {
                int seen[MOST] = {0};
                light_share s = {.size = size, .run = run, .total = each * size, .dealt = true};
                go_through(s, seen);
                assert_int_equal(light_share_turns(&s), each);
                for (int rank = 0; rank < size; rank++)
                    for (int64_t turn = 0; turn < each; turn++) {
                        s.rank = rank;
                        assert_int_equal(light_share_batch(&s, turn), turn * size + rank);
                    }
            }
}

/* The windows of an elastic run: as many batches for any number of ranks that divides them. */
static void windows_of_a_fixed_length_do_not_depend_on_the_ranks(void **state)
{
    (void)state;
    for (int64_t total = 0; total <= MOST; total++)
        for (int size = 1; size <= 8; size *= 2) {
            light_share s = {.size = size, .run = 8 / size, .total = total};
            int64_t turns = light_share_turns(&s), windows = 0;
            for (int64_t turn = 0; turn < turns; turn++) {
                light_turn t = light_share_turn(&s, turn);
                if (!t.ends) continue;
                windows++;
                assert_int_equal(t.after, windows * 8 < total ? windows * 8 : total);
                assert_int_equal(t.window, t.after - (windows - 1) * 8);
            }
            assert_int_equal(windows, (total + 7) / 8);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_batch_comes_once_in_its_window),
        cmocka_unit_test(any_other_size_goes_on_at_a_windows_end),
        cmocka_unit_test(dealt_batches_are_as_many_for_each_rank),
        cmocka_unit_test(windows_of_a_fixed_length_do_not_depend_on_the_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
