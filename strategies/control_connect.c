/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the connections. The first process listens; its addresses and a random token go to the others through the
 * host communicator. Each end proves that it knows its half of the token, so whoever else finds the port, and whoever
 * else listens at an address that two hosts happen to share, is turned away. */
#include "strategies/control_state.h"

#include "base/memory.h"
#include "base/time.h"
#include "base/world.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HALF = 16, ADDRESSES = 16, STRANGERS = 16 };

#define HANDSHAKE_SECONDS 5.0

/* What the first process gives out. */
typedef struct card {
    uint8_t token[2 * HALF]; /* the others show the first half, it answers with the second */
    int32_t n;
    char host[64];
    light_address addresses[ADDRESSES];
} card;

typedef struct hello {
    uint8_t token[HALF];
    int32_t rank, pid;
    uint16_t port; /* where it listens */
    char host[64];
} hello;

/* A process, as the first one tells all the others. */
typedef struct listing {
    int32_t pid;
    char host[64];
    light_address address;
} listing;

/* ---- frames, waited for --------------------------------------------------------- */

/* Waits for the next frame; 0, an errno, or ETIMEDOUT. */
static int await_frame(light_wire *w, double end)
{
    for (bool whole = false;;) {
        int error = light_wire_flush(w);
        if (!error) error = light_wire_read(w, &whole);
        if (error || whole) return error;
        double left = end - light_now();
        if (left <= 0) return ETIMEDOUT;
        struct pollfd wait = {.fd = w->socket, .events = POLLIN};
        poll(&wait, 1, (int)(1e3 * left) + 1);
    }
}

static bool is_frame(const light_wire *w, uint32_t kind, size_t bytes)
{
    return w->head.kind == kind && w->head.bytes == bytes;
}

/* ---- the first process ------------------------------------------------------------ */

/* A connection that has not said hello yet. */
typedef struct stranger {
    light_wire wire;
    double end;
} stranger;

static void take_strangers(int listener, stranger *strangers)
{
    for (int i = 0; i < STRANGERS; i++) {
        if (strangers[i].wire.socket >= 0) continue;
        int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (s < 0) return;
        strangers[i] =
            (stranger){.wire = {.socket = s, .limit = sizeof(hello)}, .end = light_now() + HANDSHAKE_SECONDS};
    }
}

/* Whether it is one of ours, which is then in its place and welcomed. */
static light_status welcome(light_control *c, const card *own, stranger *s, bool *ours)
{
    hello h;
    *ours = false;
    if (!is_frame(&s->wire, LIGHT_FRAME_HELLO, sizeof h)) return LIGHT_OK;
    memcpy(&h, s->wire.body, sizeof h);
    if (memcmp(h.token, own->token, HALF) != 0 || h.rank < 1 || h.rank >= c->size) return LIGHT_OK;
    light_peer *peer = &c->peers[h.rank];
    if (peer->wire.socket >= 0) light_wire_close(&peer->wire); /* it has tried twice */
    peer->wire = s->wire;
    peer->wire.limit = 0;
    s->wire = (light_wire){.socket = -1};
    peer->pid = h.pid;
    snprintf(peer->host, sizeof peer->host, "%.63s", h.host);
    light_wire_peer(peer->wire.socket, h.port, &peer->address);
    *ours = true;
    return light_wire_put(&peer->wire, LIGHT_FRAME_WELCOME, 0, own->token + HALF, HALF);
}

static light_status hear_strangers(light_control *c, const card *own, stranger *strangers)
{
    for (int i = 0; i < STRANGERS; i++) {
        stranger *s = &strangers[i];
        bool whole = false, ours = false;
        if (s->wire.socket < 0) continue;
        int error = light_wire_read(&s->wire, &whole);
        if (whole) LIGHT_TRY(welcome(c, own, s, &ours));
        if (!ours && (error || whole || light_now() > s->end)) light_wire_close(&s->wire);
    }
    return LIGHT_OK;
}

static int first_missing(const light_control *c)
{
    for (int r = 1; r < c->size; r++)
        if (c->peers[r].wire.socket < 0) return r;
    return 0;
}

static void wait_for_strangers(int listener, const stranger *strangers)
{
    struct pollfd waits[STRANGERS + 1] = {{.fd = listener, .events = POLLIN}};
    for (int i = 0; i < STRANGERS; i++)
        waits[i + 1] = (struct pollfd){.fd = strangers[i].wire.socket, .events = POLLIN};
    poll(waits, STRANGERS + 1, 100);
}

static light_status receive_all(light_control *c, const card *own)
{
    double end = light_now() + c->timeout;
    stranger strangers[STRANGERS];
    light_status status = LIGHT_OK;
    for (int i = 0; i < STRANGERS; i++) strangers[i] = (stranger){.wire = {.socket = -1}};
    while (status == LIGHT_OK && first_missing(c)) {
        take_strangers(c->listener, strangers);
        status = hear_strangers(c, own, strangers);
        for (int r = 1; r < c->size; r++)
            if (c->peers[r].wire.socket >= 0) light_wire_flush(&c->peers[r].wire);
        if (status == LIGHT_OK && first_missing(c) && light_now() > end)
            status = light_fail(LIGHT_ERR_STATE,
                                "rank %d has not come to the control channel on %s port %d within %g s; can "
                                "the hosts reach each other by TCP?",
                                first_missing(c), own->host, own->n ? own->addresses[0].port : 0, c->timeout);
        if (status == LIGHT_OK && first_missing(c)) wait_for_strangers(c->listener, strangers);
    }
    for (int i = 0; i < STRANGERS; i++) light_wire_close(&strangers[i].wire);
    return status;
}

static light_status start_all(light_control *c)
{
    listing *all = light_calloc((size_t)c->size, sizeof *all);
    light_status status = all ? LIGHT_OK : LIGHT_ERR_MEMORY;
    for (int r = 0; r < c->size && status == LIGHT_OK; r++) {
        all[r] = (listing){.pid = c->peers[r].pid, .address = c->peers[r].address};
        memcpy(all[r].host, c->peers[r].host, sizeof all[r].host);
    }
    for (int r = 1; r < c->size && status == LIGHT_OK; r++) {
        light_wire *w = &c->peers[r].wire;
        status = light_wire_put(w, LIGHT_FRAME_START, 0, all, (size_t)c->size * sizeof *all);
        if (status == LIGHT_OK) light_wire_flush(w); /* what is left goes with the first heartbeat */
    }
    light_free(all);
    return status;
}

static light_status make_card(light_control *c, uint16_t port, card *own)
{
    if (getrandom(own->token, sizeof own->token, 0) != sizeof own->token)
        return light_fail(LIGHT_ERR_IO, "no random bytes from the system: %s", strerror(errno));
    memcpy(own->host, c->peers[0].host, sizeof own->host);
    own->n = light_wire_addresses(port, own->addresses, ADDRESSES);
    return LIGHT_OK;
}

/* ---- the others ------------------------------------------------------------------- */

/* Says hello; false when it is not the first process that listens there, or it does not listen any more. */
static bool greet(light_control *c, const card *first, uint16_t port, int socket)
{
    light_wire *w = &c->peers[0].wire;
    hello h = {.rank = c->rank, .pid = getpid(), .port = port};
    memcpy(h.token, first->token, HALF);
    memcpy(h.host, c->peers[c->rank].host, sizeof h.host);
    *w = (light_wire){.socket = socket};
    bool ours = light_wire_put(w, LIGHT_FRAME_HELLO, 0, &h, sizeof h) == LIGHT_OK &&
                await_frame(w, light_now() + HANDSHAKE_SECONDS) == 0 &&
                is_frame(w, LIGHT_FRAME_WELCOME, HALF) && !memcmp(w->body, first->token + HALF, HALF);
    if (!ours) light_wire_close(w);
    return ours;
}

/* All addresses at once; the first that answers as it should is taken. */
static light_status reach_first(light_control *c, const card *first, uint16_t port)
{
    double end = light_now() + c->timeout;
    int sockets[ADDRESSES], chosen;
    bool found = false;
    for (int i = 0; i < first->n; i++) sockets[i] = light_wire_connect(&first->addresses[i]);
    while (!found && (chosen = light_wire_any_connected(sockets, first->n, end - light_now())) >= 0) {
        found = greet(c, first, port, sockets[chosen]);
        sockets[chosen] = -1;
    }
    for (int i = 0; i < first->n; i++)
        if (sockets[i] >= 0) close(sockets[i]);
    if (found) return LIGHT_OK;
    return light_fail(LIGHT_ERR_STATE,
                      "rank %d on %s cannot reach the control channel of rank 0 on %s (port %d, %d addresses "
                      "tried); can the hosts reach each other by TCP?",
                      c->rank, c->peers[c->rank].host, first->host, first->n ? first->addresses[0].port : 0,
                      first->n);
}

static light_status await_start(light_control *c)
{
    light_wire *w = &c->peers[0].wire;
    size_t bytes = (size_t)c->size * sizeof(listing);
    int error = await_frame(w, light_now() + c->timeout);
    if (error || !is_frame(w, LIGHT_FRAME_START, bytes))
        return light_fail(LIGHT_ERR_STATE, "rank 0 has not opened the control channel: %s",
                          error ? strerror(error) : "what it sent is not understood");
    for (int r = 0; r < c->size; r++) {
        listing one;
        memcpy(&one, w->body + (size_t)r * sizeof one, sizeof one);
        c->peers[r].pid = one.pid;
        c->peers[r].address = one.address;
        snprintf(c->peers[r].host, sizeof c->peers[r].host, "%.63s", one.host);
    }
    return LIGHT_OK;
}

/* ---- both --------------------------------------------------------------------------- */

light_status light_control_connect(light_control *c, light_communicator *host)
{
    card first = {0};
    uint16_t port = 0;
    light_peer *self = &c->peers[c->rank];
    self->pid = getpid();
    snprintf(self->host, sizeof self->host, "%s", light_world_get()->host);
    LIGHT_TRY(light_wire_listen(c->size + STRANGERS, &c->listener, &port));
    if (c->rank == 0) LIGHT_TRY(make_card(c, port, &first));
    LIGHT_TRY(light_broadcast_bytes(host, &first, sizeof first, 0, "address of the control channel"));
    if (c->rank == 0) {
        LIGHT_TRY(receive_all(c, &first));
        LIGHT_TRY(start_all(c));
    } else {
        LIGHT_TRY(reach_first(c, &first, port));
        LIGHT_TRY(await_start(c));
    }
    for (int r = 0; r < c->size; r++)
        if (c->peers[r].wire.socket >= 0) light_wire_tune(c->peers[r].wire.socket, LIGHT_CONTROL_LOST);
    return LIGHT_OK;
}
