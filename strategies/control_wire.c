/* SPDX-License-Identifier: Apache-2.0 */
/* Frames in and out of a socket that never blocks. All processes of a job are of one program, so structs travel as they
 * lie in memory. */
#include "strategies/control_wire.h"

#include "base/memory.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for n more bytes to be sent, moved to the front where that makes it. */
static light_status make_room(light_wire *w, size_t n)
{
    size_t waiting = w->out_to - w->out_from;
    if (w->out_from > 0) memmove(w->out, w->out + w->out_from, waiting);
    w->out_from = 0;
    w->out_to = waiting;
    if (w->out_capacity - waiting >= n) return LIGHT_OK;
    size_t capacity = 2 * w->out_capacity > waiting + n ? 2 * w->out_capacity : waiting + n;
    char *larger = light_realloc(w->out, capacity);
    if (!larger) return LIGHT_ERR_MEMORY;
    w->out = larger;
    w->out_capacity = capacity;
    return LIGHT_OK;
}

static void append(light_wire *w, const void *bytes, size_t n)
{
    if (n > 0) memcpy(w->out + w->out_to, bytes, n);
    w->out_to += n;
}

light_status light_wire_put(light_wire *w, uint32_t kind, uint64_t number, const void *bytes, size_t n)
{
    if (n > LIGHT_FRAME_BYTES_MAX)
        return light_fail(LIGHT_ERR_ARGUMENT, "a message of %zu bytes; the control channel takes 2 GiB", n);
    light_frame head = {.kind = kind, .bytes = (uint32_t)n, .number = number};
    if (w->out_capacity - w->out_to < sizeof head + n) LIGHT_TRY(make_room(w, sizeof head + n));
    append(w, &head, sizeof head);
    append(w, bytes, n);
    return LIGHT_OK;
}

int light_wire_flush(light_wire *w)
{
    while (w->out_from < w->out_to) {
        ssize_t sent =
            send(w->socket, w->out + w->out_from, w->out_to - w->out_from, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
        w->out_from += (size_t)sent;
    }
    w->out_from = w->out_to = 0;
    return 0;
}

/* The memory for what a frame carries, once its head is there. */
static int make_body(light_wire *w)
{
    if (w->head.bytes > (w->limit ? w->limit : LIGHT_FRAME_BYTES_MAX)) return EPROTO;
    if (w->body && w->body_capacity >= w->head.bytes) return 0;
    light_free(w->body);
    w->body_capacity = w->head.bytes;
    w->body = light_alloc(w->head.bytes);
    return w->body ? 0 : ENOMEM;
}

int light_wire_read(light_wire *w, bool *whole)
{
    *whole = false;
    if (w->have >= sizeof w->head && w->have == sizeof w->head + w->head.bytes) w->have = 0;
    for (;;) {
        bool in_head = w->have < sizeof w->head;
        char *to = in_head ? (char *)&w->head + w->have : w->body + (w->have - sizeof w->head);
        size_t wanted = (in_head ? sizeof w->head : sizeof w->head + w->head.bytes) - w->have;
        ssize_t got = recv(w->socket, to, wanted, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : errno;
        if (got == 0) return EPIPE;
        w->have += (size_t)got;
        if (w->have < sizeof w->head) continue;
        if (w->have == sizeof w->head) {
            int error = make_body(w);
            if (error) return error;
        }
        if (w->have == sizeof w->head + w->head.bytes) {
            *whole = true;
            return 0;
        }
    }
}

double light_wire_unacknowledged(const light_wire *w)
{
    struct tcp_info info = {0};
    socklen_t bytes = sizeof info;
    getsockopt(w->socket, IPPROTO_TCP, TCP_INFO, &info, &bytes);
    return info.tcpi_unacked > 0 ? (double)info.tcpi_last_ack_recv / 1e3 : 0;
}

void light_wire_close(light_wire *w)
{
    if (w->socket >= 0) close(w->socket);
    light_free(w->out);
    light_free(w->body);
    *w = (light_wire){.socket = -1};
}
