/* SPDX-License-Identifier: Apache-2.0 */
/* Listening, connecting, and the addresses by which other hosts may reach this one. */
#include "strategies/control_wire.h"

#include "base/time.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

typedef union any_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage room;
} any_address;

/* ---- between the system's addresses and ours -------------------------------- */

static void from_system(const struct sockaddr *in, uint16_t port, light_address *out)
{
    any_address a = {0};
    memcpy(&a, in, in->sa_family == AF_INET ? sizeof a.v4 : sizeof a.v6);
    *out = (light_address){.family = in->sa_family, .port = port};
    if (in->sa_family == AF_INET) {
        memcpy(out->ip, &a.v4.sin_addr, sizeof a.v4.sin_addr);
    } else if (IN6_IS_ADDR_V4MAPPED(&a.v6.sin6_addr)) {
        out->family = AF_INET;
        memcpy(out->ip, a.v6.sin6_addr.s6_addr + 12, 4);
    } else {
        memcpy(out->ip, &a.v6.sin6_addr, sizeof a.v6.sin6_addr);
        out->scope = a.v6.sin6_scope_id;
    }
}

static socklen_t to_system(const light_address *in, any_address *out)
{
    *out = (any_address){0};
    if (in->family == AF_INET) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(in->port);
        memcpy(&out->v4.sin_addr, in->ip, sizeof out->v4.sin_addr);
        return sizeof out->v4;
    }
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(in->port);
    out->v6.sin6_scope_id = in->scope;
    memcpy(&out->v6.sin6_addr, in->ip, sizeof out->v6.sin6_addr);
    return sizeof out->v6;
}

/* ---- listening ---------------------------------------------------------------- */

/* IPv6 takes IPv4 too, where the system has it. */
static int bind_any(int family)
{
    int s = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), no = 0;
    if (s < 0) return -1;
    any_address all;
    socklen_t bytes = to_system(&(light_address){.family = (uint16_t)family}, &all);
    bool both = family == AF_INET || setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof no) == 0;
    if (both && bind(s, &all.any, bytes) == 0) return s;
    close(s);
    return -1;
}

light_status light_wire_listen(int backlog, int *listener, uint16_t *port)
{
    any_address bound;
    socklen_t bytes = sizeof bound;
    int s = bind_any(AF_INET6);
    if (s < 0) s = bind_any(AF_INET);
    if (s < 0 || listen(s, backlog) != 0 || getsockname(s, &bound.any, &bytes) != 0) {
        int error = errno;
        if (s >= 0) close(s);
        return light_fail(LIGHT_ERR_IO, "the control channel cannot listen on a TCP port: %s",
                          strerror(error));
    }
    *listener = s;
    *port = ntohs(bound.any.sa_family == AF_INET ? bound.v4.sin_port : bound.v6.sin6_port);
    return LIGHT_OK;
}

static bool is_usable(const struct ifaddrs *i, bool loopback)
{
    if (!i->ifa_addr || !(i->ifa_flags & IFF_UP) || loopback != !!(i->ifa_flags & IFF_LOOPBACK)) return false;
    return i->ifa_addr->sa_family == AF_INET || i->ifa_addr->sa_family == AF_INET6;
}

int light_wire_addresses(uint16_t port, light_address *addresses, int limit)
{
    struct ifaddrs *all;
    int n = 0;
    if (getifaddrs(&all) != 0) return 0;
    for (int loopback = 0; loopback < 2 && n == 0; loopback++)
        for (const struct ifaddrs *i = all; i && n < limit; i = i->ifa_next)
            if (is_usable(i, loopback)) from_system(i->ifa_addr, port, &addresses[n++]);
    freeifaddrs(all);
    return n;
}

/* ---- connecting --------------------------------------------------------------- */

int light_wire_connect(const light_address *address)
{
    any_address to;
    socklen_t bytes = to_system(address, &to);
    int s = socket(address->family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0) return -1;
    if (connect(s, &to.any, bytes) == 0 || errno == EINPROGRESS) return s;
    close(s);
    return -1;
}

static bool is_connected(int s)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    return getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &bytes) == 0 && error == 0;
}

int light_wire_any_connected(const int *sockets, int n, double seconds)
{
    double end = light_now() + seconds, left;
    bool refused[n > 0 ? n : 1];
    memset(refused, 0, sizeof refused);
    while ((left = end - light_now()) > 0) {
        struct pollfd waits[n > 0 ? n : 1];
        int waiting = 0;
        for (int i = 0; i < n; i++) {
            waits[i] = (struct pollfd){.fd = refused[i] ? -1 : sockets[i], .events = POLLOUT};
            waiting += waits[i].fd >= 0;
        }
        if (waiting == 0) return -1;
        poll(waits, (nfds_t)n, (int)(1e3 * left) + 1);
        for (int i = 0; i < n; i++) {
            if (waits[i].fd < 0 || !waits[i].revents) continue;
            if (is_connected(sockets[i])) return i;
            refused[i] = true;
        }
    }
    return -1;
}

void light_wire_peer(int socket, uint16_t port, light_address *address)
{
    any_address peer = {.any.sa_family = AF_INET};
    socklen_t bytes = sizeof peer;
    getpeername(socket, &peer.any, &bytes);
    from_system(&peer.any, port, address);
}

void light_wire_tune(int socket, int seconds)
{
    int yes = 1, idle = 2, probes = seconds / idle, milliseconds = 1000 * seconds;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
}
