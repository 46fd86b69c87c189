/* SPDX-License-Identifier: Apache-2.0 */
/* A cable that loses packets, for kernels without netem: two new TAP devices and this program between them.
 *
 *     lossy_link A B SEED
 *
 * The devices stay until the program ends, which it does with its input. A line "LOSS LATE" there sets how many percent of
 * the frames are lost, and how many are overtaken by the next one; it begins with 0 0. Each line, and the end, is answered
 * by what has passed since the last one: "1200 frames, 61 lost, 58 late".
 *
 * A TAP device offloads nothing unless it is asked to, so the kernel completes checksums and cuts long segments before a
 * frame comes here. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { FRAME_BYTES = 2048, HELD_MS = 20 };

typedef struct frame {
    ssize_t bytes;
    char data[FRAME_BYTES];
} frame;

typedef struct direction {
    int from, to;
    frame held; /* until another one has overtaken it, or nothing came for HELD_MS; bytes 0: none */
} direction;

static struct {
    int loss, late; /* percent */
    long frames, lost, held;
    uint64_t random;
} cable;

static int open_device(const char *name)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) == 0) return fd;
    fprintf(stderr, "lossy_link: cannot make the TAP device %s: %s\n", name, strerror(errno));
    exit(1);
}

static bool happens(int percent)
{
    cable.random = cable.random * 6364136223846793005u + 1442695040888963407u;
    return (int)((cable.random >> 33) % 100) < percent;
}

/* What a device that is down or full does not take is lost, as on any cable. */
static void pass_on(const direction *d, const frame *f)
{
    if (write(d->to, f->data, (size_t)f->bytes) != f->bytes) cable.lost++;
}

static void let_go(direction *d)
{
    if (d->held.bytes > 0) pass_on(d, &d->held);
    d->held.bytes = 0;
}

static void carry(direction *d)
{
    frame f;
    f.bytes = read(d->from, f.data, sizeof f.data);
    if (f.bytes <= 0) return;
    cable.frames++;
    if (happens(cable.loss)) {
        cable.lost++;
    } else if (d->held.bytes == 0 && happens(cable.late)) {
        cable.held++;
        d->held = f;
    } else {
        pass_on(d, &f);
        let_go(d);
    }
}

/* False at the end of the input. */
static bool obey(void)
{
    char line[64];
    bool more = fgets(line, sizeof line, stdin) != NULL;
    printf("%ld frames, %ld lost, %ld late\n", cable.frames, cable.lost, cable.held);
    fflush(stdout);
    if (more && sscanf(line, "%d %d", &cable.loss, &cable.late) != 2) {
        fprintf(stderr, "lossy_link: not 'LOSS LATE': %s", line);
        exit(2);
    }
    cable.frames = cable.lost = cable.held = 0;
    return more;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: lossy_link A B SEED\n");
        return 2;
    }
    int a = open_device(argv[1]), b = open_device(argv[2]);
    direction there = {.from = a, .to = b}, back = {.from = b, .to = a};
    struct pollfd ready[] = {{a, POLLIN, 0}, {b, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    cable.random = strtoull(argv[3], NULL, 10);
    setvbuf(stdin, NULL, _IONBF, 0); /* so that poll knows of every line */
    for (;;) {
        int n = poll(ready, 3, HELD_MS);
        if (n < 0 && errno != EINTR) return 1;
        if (n == 0) let_go(&there), let_go(&back);
        if (n > 0 && ready[0].revents) carry(&there);
        if (n > 0 && ready[1].revents) carry(&back);
        if (n > 0 && ready[2].revents && !obey()) return 0;
    }
}
