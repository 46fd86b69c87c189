/* SPDX-License-Identifier: Apache-2.0 */
/* The plug-in liblight_mpi.so: the only file that knows MPI. */
#include "strategies/mpi/table.h"
#include "tensor/device.h"

#include <mpi.h>
#include <stdarg.h>

static const light_plugin_host *host;
static MPI_Comm world = MPI_COMM_NULL; /* ours, so that no message of the program is taken for one of these */
static bool started_here;

static light_status failed(const char *format, ...) LIGHT_PRINTF(1, 2);
static light_status failed(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    light_status status = host->fail(LIGHT_ERR_STATE, format, arguments);
    va_end(arguments);
    return status;
}

static light_status checked(const char *name, int error)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (error == MPI_SUCCESS) return LIGHT_OK;
    MPI_Error_string(error, text, &length);
    return failed("%s: %.*s", name, length, text);
}

/* A program that uses MPI itself has to let another thread in. */
static light_status start(void)
{
    int running, level = MPI_THREAD_FUNNELED;
    MPI_Initialized(&running);
    started_here = !running;
    if (!running) return checked("MPI_Init_thread", MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level));
    MPI_Query_thread(&level);
    return level == MPI_THREAD_MULTIPLE
               ? LIGHT_OK
               : failed("MPI is in use by the program already, without MPI_THREAD_MULTIPLE");
}

static light_status init(int *rank, int *size)
{
    LIGHT_TRY(start());
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    LIGHT_TRY(checked("MPI_Comm_dup", MPI_Comm_dup(MPI_COMM_WORLD, &world)));
    LIGHT_TRY(checked("MPI_Comm_rank", MPI_Comm_rank(world, rank)));
    return checked("MPI_Comm_size", MPI_Comm_size(world, size));
}

static void finalize(void)
{
    int over;
    MPI_Finalized(&over); /* by the program */
    if (over) return;
    MPI_Comm_free(&world);
    if (started_here) MPI_Finalize();
}

static light_status send(const void *data, size_t bytes, int to, int tag, void *request)
{
    return checked("MPI_Isend", MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, world, request));
}

static light_status receive(void *data, size_t bytes, int from, int tag, void *request)
{
    return checked("MPI_Irecv", MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, world, request));
}

/* Testall says only that something was wrong; the request knows what. */
static light_status first_error(MPI_Request *requests, int n)
{
    for (int i = 0; i < n; i++) {
        MPI_Status status;
        int done;
        LIGHT_TRY(checked("MPI_Test", MPI_Test(&requests[i], &done, &status)));
    }
    return failed("MPI_Testall: a message failed");
}

static light_status test(void *requests, int n, bool *done)
{
    int all = 0;
    int error = MPI_Testall(n, requests, &all, MPI_STATUSES_IGNORE);
    *done = all != 0;
    if (error == MPI_ERR_IN_STATUS) return first_error(requests, n);
    return checked("MPI_Testall", error);
}

LIGHT_API const void *light_plugin(const light_plugin_host *from)
{
    static const light_mpi table = {
        .size = sizeof table,
        .request_bytes = sizeof(MPI_Request),
        .last_tag = 32767, /* what every MPI has */
        .init = init,
        .finalize = finalize,
        .send = send,
        .receive = receive,
        .test = test,
    };
    if (from->size != sizeof *from) return NULL;
    host = from;
    return &table;
}
