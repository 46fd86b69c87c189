/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over TCP connections that never block, and how such connections are made. */
#ifndef LIGHT_STRATEGIES_CONTROL_WIRE_H
#define LIGHT_STRATEGIES_CONTROL_WIRE_H

#include <light/status.h>

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIGHT_FRAME_BYTES_MAX ((uint32_t)1 << 31)

typedef struct light_frame {
    uint32_t kind, bytes; /* of what follows */
    uint64_t number;
} light_frame;

/* Starts as {.socket = -1}. Both buffers keep their memory, so heartbeats allocate nothing. */
typedef struct light_wire {
    int socket;
    uint32_t limit; /* of a frame's bytes; 0: LIGHT_FRAME_BYTES_MAX */
    char *out;      /* bytes out_from .. out_to wait to be sent */
    size_t out_from, out_to, out_capacity;
    light_frame head; /* of the frame that comes in; what it carries is in `body` */
    size_t have;      /* bytes of head and body that have come */
    char *body;       /* whoever takes it sets it to NULL */
    size_t body_capacity;
} light_wire;

/* Puts a frame behind what waits to be sent. */
light_status light_wire_put(light_wire *w, uint32_t kind, uint64_t number, const void *bytes, size_t n);
/* These two return 0 or an errno. EPIPE: the other end has closed; EPROTO: what comes is no frame. */
int light_wire_flush(light_wire *w);
/* Reads what is there, at most to the end of one frame: then *whole, and the next call begins the next frame. */
int light_wire_read(light_wire *w, bool *whole);
/* Seconds since the last acknowledgement came, where something that was sent waits for one; else 0. The kernel's own limit
 * (light_wire_tune) counts from the first time that it sends something again, which on a link that loses packets may be
 * seconds later. */
double light_wire_unacknowledged(const light_wire *w);
void light_wire_close(light_wire *w);

/* ---- connections --------------------------------------------------------- */

/* Where a process listens. */
typedef struct light_address {
    uint16_t family; /* AF_INET, AF_INET6 */
    uint16_t port;
    uint8_t ip[16];
    uint32_t scope; /* of a link-local IPv6 address */
} light_address;

/* A socket that listens on a free port of all interfaces. */
light_status light_wire_listen(int backlog, int *listener, uint16_t *port);
/* The addresses of this host's interfaces that others may reach; loopback only where there is nothing else. Their
 * number is returned. */
int light_wire_addresses(uint16_t port, light_address *addresses, int limit);
/* Begins to connect; -1 when that is impossible at once. */
int light_wire_connect(const light_address *address);
/* Waits until one of n such sockets (-1: none) is connected; its index, or -1 after `seconds`. */
int light_wire_any_connected(const int *sockets, int n, double seconds);
/* The other end's address, with another port. */
void light_wire_peer(int socket, uint16_t port, light_address *address);
/* Small packets at once; the other end is missed when it acknowledges nothing for so many seconds. */
void light_wire_tune(int socket, int seconds);

#endif
