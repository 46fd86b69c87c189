/* SPDX-License-Identifier: Apache-2.0 */
/* The tests are in a library (sim.cpp), because the simulated device fills a library's shared memory only. */
int test_simulator(void);

int main(void)
{
    return test_simulator();
}
