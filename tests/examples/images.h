/* SPDX-License-Identifier: Apache-2.0 */
/* Files that look like Fashion-MNIST, in a folder of the test's: black images, all of class 0. Include it behind
 * config/program.h. */
#ifndef TESTS_EXAMPLES_IMAGES_H
#define TESTS_EXAMPLES_IMAGES_H

/* LeCun's header; the zeros behind it take no place on disk. */
static void put_zeros(const char *name, unsigned char num_dims, uint32_t samples)
{
    const uint32_t dims[3] = {samples, 28, 28};
    unsigned char header[16] = {0, 0, 8, num_dims};
    off_t bytes = 4 + 4 * num_dims + (off_t)samples * (num_dims == 3 ? 28 * 28 : 1);
    for (int i = 0; i < num_dims; i++)
        for (int j = 0; j < 4; j++) header[4 + 4 * i + j] = (unsigned char)(dims[i] >> (24 - 8 * j));
    FILE *file = fopen(at(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(header, 4 + 4 * (size_t)num_dims, 1, file), 1);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(at(name), bytes), 0);
}

static int make_images(void **state)
{
    if (make_folder(state) || mkdir(at("data"), 0777)) return -1;
    put_zeros("data/train-images-idx3-ubyte", 3, 60000);
    put_zeros("data/train-labels-idx1-ubyte", 1, 60000);
    put_zeros("data/t10k-images-idx3-ubyte", 3, 64);
    put_zeros("data/t10k-labels-idx1-ubyte", 1, 64);
    return 0;
}

#endif
