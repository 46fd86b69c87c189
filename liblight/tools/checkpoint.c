/* SPDX-License-Identifier: Apache-2.0 */
/* light-checkpoint: looks at checkpoints, checks them, compares two, makes one plain HDF5 file of one. */
#include <light/checkpoint.h>

#include <dirent.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DONE = 0, NEGATIVE = 1, WRONG_USAGE = 2, FAILED = 3 };

static const char usage[] =
    "usage: light-checkpoint COMMAND ...\n"
    "\n"
    "  list PATH        what a checkpoint is and which tensors it has; of a folder, which checkpoints are in it\n"
    "  verify PATH...   reads every byte and compares it with the checksums\n"
    "  diff A B         which tensors of two checkpoints differ, and by how much\n"
    "  merge PATH FILE  all tensors of a checkpoint as one plain HDF5 file, for h5py and other readers\n"
    "  --help           this text\n"
    "\n"
    "exit codes: 0 done; 1 damaged or incomplete (verify), different (diff); 2 wrong usage; 3 could not be done\n";

/* The library's line for its last failure. */
static int fail(int code)
{
    fprintf(stderr, "light-checkpoint: %s\n", light_error_message());
    return code;
}

/* ---- list ------------------------------------------------------------------ */

static const char *format_bytes(uint64_t bytes, char text[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    int unit = 0;
    for (; value >= 1000 && unit < 5; unit++) value /= 1000;
    snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return text;
}

static void print_about(const char *path, const light_checkpoint_about *about)
{
    char bytes[32], date[32];
    time_t seconds = (time_t)(about->created_ns / 1000000000);
    struct tm parts;
    strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", gmtime_r(&seconds, &parts));
    printf("%s: step %" PRId64 ", epoch %" PRId64 ", %s, %" PRId64 " writer%s, %s UTC\n", path, about->step,
           about->epoch, format_bytes(about->bytes, bytes), about->writers, about->writers == 1 ? "" : "s",
           date);
}

static int list_tensors(const char *path)
{
    light_checkpoint *checkpoint;
    light_checkpoint_tensor tensor;
    int64_t elements = 0;
    size_t i;
    if (light_checkpoint_open_lazily(path, &checkpoint) != LIGHT_OK) return fail(FAILED);
    for (i = 0; light_checkpoint_tensor_at(checkpoint, i, &tensor); i++) {
        char shape[256];
        printf("  %-4s  %-20s  %s\n", light_dtype_name(tensor.dtype),
               light_shape_format(tensor.shape, shape, sizeof shape), tensor.name);
        elements += light_shape_numel(tensor.shape);
    }
    printf("  %zu tensors, %" PRId64 " elements\n", i, elements);
    light_checkpoint_close(checkpoint);
    return DONE;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "FOLDER/NAME" in new memory, NULL without. */
static char *join(const char *folder, const char *name)
{
    size_t bytes = strlen(folder) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path) snprintf(path, bytes, "%s/%s", folder, name);
    return path;
}

static bool holds_manifest(const char *folder)
{
    char *path = join(folder, "manifest.json");
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (file) fclose(file);
    free(path);
    return file != NULL;
}

/* The names in a folder, sorted; NULL when that cannot be. */
static char **names_of(const char *folder, size_t *count)
{
    size_t capacity = 16;
    char **names = malloc(capacity * sizeof *names);
    DIR *open_folder = names ? opendir(folder) : NULL;
    *count = 0;
    for (struct dirent *entry; open_folder && names && (entry = readdir(open_folder)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        if (*count == capacity) {
            char **larger = realloc(names, (capacity *= 2) * sizeof *names);
            if (!larger) break;
            names = larger;
        }
        if ((names[*count] = strdup(entry->d_name)) != NULL) ++*count;
    }
    if (open_folder) {
        closedir(open_folder);
        qsort(names, *count, sizeof *names, by_name);
        return names;
    }
    free(names);
    return NULL;
}

static int list_folder(const char *folder)
{
    size_t count, found = 0;
    int code = DONE;
    char **names = names_of(folder, &count);
    if (!names) {
        fprintf(stderr, "light-checkpoint: %s is no folder that can be read\n", folder);
        return FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        light_checkpoint_about about;
        char *path = join(folder, names[i]);
        if (path && holds_manifest(path)) {
            found++;
            if (light_checkpoint_peek(path, &about) == LIGHT_OK)
                print_about(path, &about);
            else
                code = fail(FAILED);
        }
        free(path);
        free(names[i]);
    }
    free(names);
    if (found) return code;
    fprintf(stderr, "light-checkpoint: %s is no checkpoint, and there is none in it\n", folder);
    return FAILED;
}

static int list(char **paths)
{
    light_checkpoint_about about;
    if (!holds_manifest(paths[0])) return list_folder(paths[0]);
    if (light_checkpoint_peek(paths[0], &about) != LIGHT_OK) return fail(FAILED);
    print_about(paths[0], &about);
    return list_tensors(paths[0]);
}

/* ---- verify ------------------------------------------------------------------ */

static int verify(char **paths)
{
    int code = DONE;
    for (; *paths; paths++) {
        light_checkpoint *checkpoint;
        light_status status = light_checkpoint_open(*paths, &checkpoint);
        if (status == LIGHT_OK) {
            printf("%s: good\n", *paths);
            light_checkpoint_close(checkpoint);
            continue;
        }
        int worse = fail(status == LIGHT_ERR_FORMAT ? NEGATIVE : FAILED);
        code = worse > code ? worse : code;
    }
    return code;
}

/* ---- diff --------------------------------------------------------------------- */

enum { AT_ONCE = 1 << 17 }; /* elements that are compared at a time */

typedef struct difference {
    int64_t elements; /* that differ in a bit */
    double largest;   /* |a - b|; NaN where one of them is */
} difference;

static light_status read_elements(const light_checkpoint *checkpoint, const char *name, light_dtype dtype,
                                  int64_t begin, int64_t count, void *to)
{
    light_tensor *part;
    LIGHT_TRY(light_tensor_wrap(&part, LIGHT_SHAPE(count), dtype, to));
    light_status status = light_checkpoint_read_part(checkpoint, name, part, begin);
    light_tensor_free(part);
    return status;
}

/* Adds what differs in elements [begin, begin + count). */
static light_status compare_elements(const light_checkpoint *const *both,
                                     const light_checkpoint_tensor *tensor, int64_t begin, int64_t count,
                                     difference *d)
{
    static double bits[2][AT_ONCE], numbers[2][AT_ONCE]; /* no element is longer than a double */
    const size_t size = light_dtype_size(tensor->dtype);
    const char *a = (char *)bits[0], *b = (char *)bits[1];
    for (int i = 0; i < 2; i++)
        LIGHT_TRY(read_elements(both[i], tensor->name, tensor->dtype, begin, count, bits[i]));
    if (memcmp(a, b, (size_t)count * size) == 0) return LIGHT_OK;
    for (int i = 0; i < 2; i++)
        LIGHT_TRY(read_elements(both[i], tensor->name, LIGHT_F64, begin, count, numbers[i]));
    for (int64_t i = 0; i < count; i++) {
        if (memcmp(a + (size_t)i * size, b + (size_t)i * size, size) == 0) continue;
        double distance = fabs(numbers[0][i] - numbers[1][i]);
        d->elements++;
        if (distance > d->largest || isnan(distance)) d->largest = distance;
    }
    return LIGHT_OK;
}

static light_status compare_tensor(const light_checkpoint *a, const light_checkpoint *b,
                                   const light_checkpoint_tensor *tensor, difference *d)
{
    const light_checkpoint *const both[] = {a, b};
    const int64_t numel = light_shape_numel(tensor->shape);
    *d = (difference){0};
    for (int64_t begin = 0; begin < numel; begin += AT_ONCE)
        LIGHT_TRY(
            compare_elements(both, tensor, begin, numel - begin < AT_ONCE ? numel - begin : AT_ONCE, d));
    return LIGHT_OK;
}

/* Tells of one tensor of A in a line, unless it is the same in B. *same: it is. */
static light_status compare_one(const light_checkpoint *a, const light_checkpoint *b,
                                const light_checkpoint_tensor *tensor, bool *same)
{
    light_checkpoint_tensor other;
    difference d;
    char here[256], there[256];
    *same = false;
    if (!light_checkpoint_find(b, tensor->name, &other)) {
        printf("%s: only in %s\n", tensor->name, light_checkpoint_path(a));
        return LIGHT_OK;
    }
    light_shape_format(tensor->shape, here, sizeof here);
    light_shape_format(other.shape, there, sizeof there);
    if (tensor->dtype != other.dtype || strcmp(here, there) != 0) {
        printf("%s: %s %s and %s %s\n", tensor->name, light_dtype_name(tensor->dtype), here,
               light_dtype_name(other.dtype), there);
        return LIGHT_OK;
    }
    LIGHT_TRY(compare_tensor(a, b, tensor, &d));
    *same = d.elements == 0;
    if (!*same)
        printf("%s: %" PRId64 " of %" PRId64 " elements differ, by %.9g at most\n", tensor->name, d.elements,
               light_shape_numel(tensor->shape), d.largest);
    return LIGHT_OK;
}

static int compare_all(const light_checkpoint *a, const light_checkpoint *b)
{
    light_checkpoint_tensor tensor;
    size_t equal = 0, different = 0;
    for (size_t i = 0; light_checkpoint_tensor_at(a, i, &tensor); i++) {
        bool same;
        if (compare_one(a, b, &tensor, &same) != LIGHT_OK) return fail(FAILED);
        equal += same;
        different += !same;
    }
    for (size_t i = 0; light_checkpoint_tensor_at(b, i, &tensor); i++) {
        if (light_checkpoint_find(a, tensor.name, &(light_checkpoint_tensor){0})) continue;
        printf("%s: only in %s\n", tensor.name, light_checkpoint_path(b));
        different++;
    }
    printf("%zu tensors are equal to the bit, %zu are not\n", equal, different);
    return different ? NEGATIVE : DONE;
}

static int diff(char **paths)
{
    light_checkpoint *a = NULL, *b = NULL;
    int code = light_checkpoint_open_lazily(paths[0], &a) == LIGHT_OK &&
                       light_checkpoint_open_lazily(paths[1], &b) == LIGHT_OK
                   ? compare_all(a, b)
                   : fail(FAILED);
    light_checkpoint_close(a);
    light_checkpoint_close(b);
    return code;
}

/* ---- merge --------------------------------------------------------------------- */

static int merge(char **paths)
{
    return light_checkpoint_merge(paths[0], paths[1]) == LIGHT_OK ? DONE : fail(FAILED);
}

/* ---- the command line ------------------------------------------------------------ */

static const struct command {
    const char *name;
    int (*run)(char **arguments); /* NULL-terminated */
    int least, most;
    const char *arguments;
} commands[] = {
    {"list", list, 1, 1, "PATH"},
    {"verify", verify, 1, 1000000, "PATH..."},
    {"diff", diff, 2, 2, "A B"},
    {"merge", merge, 2, 2, "PATH FILE"},
};

int main(int argc, char **argv)
{
    const char *wanted = argc > 1 ? argv[1] : "";
    if (!strcmp(wanted, "--help") || !strcmp(wanted, "-h") || (argc == 3 && !strcmp(argv[2], "--help"))) {
        fputs(usage, stdout);
        return DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        const struct command *c = &commands[i];
        if (strcmp(wanted, c->name) != 0) continue;
        if (argc - 2 >= c->least && argc - 2 <= c->most) {
            int code = c->run(argv + 2);
            if (fflush(stdout) == 0) return code;
            perror("light-checkpoint: cannot write to standard output");
            return FAILED;
        }
        fprintf(stderr, "light-checkpoint: it is %s %s; --help tells more\n", c->name, c->arguments);
        return WRONG_USAGE;
    }
    if (wanted[0])
        fprintf(stderr, "light-checkpoint: there is no command '%s': it is list, verify, diff or merge\n",
                wanted);
    else
        fputs(usage, stderr);
    return WRONG_USAGE;
}
