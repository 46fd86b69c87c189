/* SPDX-License-Identifier: Apache-2.0 */
/* What the control channel's files share. The first process holds a connection to every other one and knows the state of
 * all; the others hold one connection, to the first. */
#ifndef LIGHT_STRATEGIES_CONTROL_STATE_H
#define LIGHT_STRATEGIES_CONTROL_STATE_H

#include "strategies/call_mark.h"
#include "strategies/control.h"
#include "strategies/control_wire.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#define LIGHT_CONTROL_TEXT 2048 /* of a failure's */

/* ---- the call that a process waits for ----------------------------------------- */

typedef struct light_control_call {
    light_call_mark mark; /* of the newest call entered */
    int64_t waiting;      /* not left yet */
} light_control_call;

/* Written by the thread that waits, read by the channel's; neither ever waits for the other. */
typedef struct light_control_slot {
    atomic_uint version; /* odd while the words are being written */
    _Atomic uint64_t words[sizeof(light_control_call) / 8];
} light_control_slot;

void light_control_slot_init(light_control_slot *slot);
void light_control_slot_enter(light_control_slot *slot, const light_collective *call, int64_t sequence);
void light_control_slot_leave(light_control_slot *slot, int64_t sequence);
/* False when it is being written all the time: `call` is then as it was. */
bool light_control_slot_read(light_control_slot *slot, light_control_call *call);

/* ---- what is known of a process ------------------------------------------------- */

/* A heartbeat. */
typedef struct light_beat {
    light_control_call call;
    double waited;    /* seconds in the call */
    int64_t boundary; /* the last one that the process has come to; -1: none */
    int64_t idle;     /* it waits for others in another way: for a message, a decision, the end */
} light_beat;

typedef struct light_peer {
    light_wire wire;
    int pid;
    char host[64];
    light_address address; /* where it listens, for light_control_heir */
    bool known;            /* its state comes to this process, or it is this process */
    light_beat beat;
    /* In seconds of the channel's own clock, which stands still while this process is stopped: */
    double heard;        /* the last sign of life */
    double acknowledged; /* when the last of what was sent to it was, or nothing waited for that */
    double ended_at;     /* when it said that it has come to the end; 0: it has not */
    bool gone;           /* its connection has ended after that */
    bool informed;       /* it knows of the job's failure */
    bool answered;       /* in a round of stopping, with its boundary */
    int64_t answer;
} light_peer;

/* ---- messages ----------------------------------------------------------------------- */

typedef struct light_letter {
    struct light_letter *next;
    int rank;
    uint64_t number;
    void *bytes;
    size_t n;
} light_letter;

/* ---- the channel ------------------------------------------------------------------- */

/* How a stop is agreed on. A process that sees ASKED at a boundary pauses there; one that has seen CALM there has
 * published that boundary before, so the answer that its thread gives is not behind it. */
enum { LIGHT_STOP_CALM, LIGHT_STOP_ASKED, LIGHT_STOP_DECIDED };

/* What a process says about a failure: nothing, because the first one does; the text; the text if it is the first of
 * those that live; nothing, because the caller of light_control_fail does. */
enum { LIGHT_TELL_NOTHING, LIGHT_TELL, LIGHT_TELL_IF_HEIR, LIGHT_TELL_BY_CALLER };

struct light_control {
    int rank, size;
    double timeout;

    light_control_slot slot;
    _Atomic int64_t boundary;
    atomic_int phase;
    _Atomic int64_t stop_at;
    atomic_int failed; /* a light_status */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    int wake; /* an eventfd that ends the thread's poll */
    pthread_t thread;
    int listener;
    light_peer *peers;    /* by rank; those that this process holds no connection to have none */
    struct pollfd *waits; /* for the thread's poll */
    light_letter *letters;
    double clock, clock_read, next_beat;
    double returned;           /* when this process went on after it had been stopped for long */
    int idle;                  /* threads that wait for others, but not in a call */
    bool proposed, wants_stop; /* this process was asked to stop; its thread has to tell */
    bool closing, closed;      /* this process has come to the end; all have */
    bool told, ends;           /* nothing is left to be said about the failure; the thread ends */
    int telling;
    double stay; /* seconds that the process stays in light_control_close after a failure */
    char failure[LIGHT_CONTROL_TEXT];
};

/* All of these with the lock held. */

/* The job has failed with this text: others are told, waits return, and this process ends soon with `code`. Only the
 * first failure counts. */
void light_control_end_job(light_control *c, light_status status, int code, int telling, const char *text);
void light_control_tell_all(light_control *c, uint32_t kind, uint64_t number, const void *bytes, size_t n);
void light_control_wake(light_control *c);
/* Waits for a change, at most so many seconds; false when they have passed. */
bool light_control_wait(light_control *c, double seconds);
light_status light_control_post(light_control *c, int rank, uint64_t number, void *bytes, size_t n);

/* "rank 3 (node1, pid 812)" into `text`, which it returns. */
char *light_control_name(const light_control *c, int rank, char *text, size_t bytes);

/* control_connect.c: the connections, before the thread starts. */
light_status light_control_connect(light_control *c, light_communicator *host);

/* control_thread.c */
void *light_control_run(void *control);

/* control_watch.c: whether the job has come to a halt, on the first process by all heartbeats, on others by the first one's;
 * and the exit code that it then ends with. */
bool light_control_watch(light_control *c, int *code, char *text, size_t bytes);

/* control_stop.c: the thread's part in agreeing on a stop. */
void light_control_stop_ask(light_control *c);
void light_control_stop_asked(light_control *c);
void light_control_stop_answered(light_control *c, int rank, int64_t boundary);
void light_control_stop_decided(light_control *c, int64_t boundary);

/* control_exit.c: whether no living process has a lower rank, the first one aside; and the end of this process. */
bool light_control_is_heir(const light_control *c);
void light_control_exit_in(double seconds, int code);

/* ---- frames -------------------------------------------------------------------------- */

enum {
    LIGHT_FRAME_HELLO = 0x4c430001, /* to the first process: light_hello */
    LIGHT_FRAME_WELCOME,            /* the other half of the token */
    LIGHT_FRAME_START,              /* light_listing of all */
    LIGHT_FRAME_BEAT,               /* light_beat, both ways */
    LIGHT_FRAME_FAIL, /* `number` is the status; a text, which the first process sends on to all */
    LIGHT_FRAME_LOST, /* the same from the first: a process has died, hung or was cut off */
    LIGHT_FRAME_INFORMED,
    LIGHT_FRAME_PROPOSE, /* a stop */
    LIGHT_FRAME_ASK,
    LIGHT_FRAME_ANSWER, /* `number` is the boundary */
    LIGHT_FRAME_DECIDE,
    LIGHT_FRAME_LETTER, /* a message, both ways */
    LIGHT_FRAME_END,    /* this process has come to the end; from the first: all have */
};

#endif
