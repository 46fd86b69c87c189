/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between host and device, through pinned memory.
 *
 *     copy     waits (device to host), or returns when the source may be used again (host to device)
 *     upload   a batch, on a stream of its own, so that it arrives while the device works on the batch before
 *     fetch    a number, on its way to the host while both go on
 */
#include "cuda/memory.h"

#include <stdlib.h>

namespace light
{

enum { STAGES = 4, BATCHES = 3, CHUNKS = 32 };
static const size_t STAGE_BYTES = (size_t)4 << 20;

/* Pinned memory that is in use until its event has happened. */
struct stage {
    void *data;
    cudaEvent_t done;
};

/* The device memory of a batch. It grows with the first batches, field by field. */
struct chunk {
    char *data;
    size_t bytes, used;
};
struct batch_memory {
    chunk chunks[CHUNKS];
    cudaEvent_t finished; /* the work on the batch */
    cudaEvent_t arrived;
};

struct transfers {
    stage stages[STAGES];
    int next_stage;
    batch_memory batches[BATCHES];
    int batch;
    bool begun;
    struct {
        double *data; /* pinned, LIGHT_FETCHES of them */
        cudaEvent_t done[LIGHT_FETCHES];
        uint8_t dtype[LIGHT_FETCHES];
        bool taken[LIGHT_FETCHES];
        int next;
    } fetches;
};

static light_status new_event(light_device *device, cudaEvent_t *event)
{
    return cuda_status(device, cudaEventCreateWithFlags(event, cudaEventDisableTiming), "making an event");
}

light_status transfer_open(light_device *device)
{
    transfers *t = (transfers *)calloc(1, sizeof *t);
    if (!t) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    state_of(device)->transfers = t;
    for (int i = 0; i < STAGES; i++) {
        LIGHT_TRY(cuda_status(device, cudaMallocHost(&t->stages[i].data, STAGE_BYTES), "pinned memory"));
        LIGHT_TRY(new_event(device, &t->stages[i].done));
    }
    for (int i = 0; i < BATCHES; i++) {
        LIGHT_TRY(new_event(device, &t->batches[i].finished));
        LIGHT_TRY(new_event(device, &t->batches[i].arrived));
    }
    for (int i = 0; i < LIGHT_FETCHES; i++) LIGHT_TRY(new_event(device, &t->fetches.done[i]));
    return cuda_status(device,
                       cudaMallocHost((void **)&t->fetches.data, LIGHT_FETCHES * sizeof *t->fetches.data),
                       "pinned memory");
}

void transfer_close(light_device *device)
{
    transfers *t = state_of(device)->transfers;
    if (!t) return;
    for (int i = 0; i < STAGES; i++) {
        if (t->stages[i].data) cudaFreeHost(t->stages[i].data);
        if (t->stages[i].done) cudaEventDestroy(t->stages[i].done);
    }
    for (int i = 0; i < BATCHES; i++) {
        for (int k = 0; k < CHUNKS; k++)
            if (t->batches[i].chunks[k].data) cudaFree(t->batches[i].chunks[k].data);
        if (t->batches[i].finished) cudaEventDestroy(t->batches[i].finished);
        if (t->batches[i].arrived) cudaEventDestroy(t->batches[i].arrived);
    }
    for (int i = 0; i < LIGHT_FETCHES; i++)
        if (t->fetches.done[i]) cudaEventDestroy(t->fetches.done[i]);
    if (t->fetches.data) cudaFreeHost(t->fetches.data);
    free(t);
}

/* ---- copy ---------------------------------------------------------------------- */

/* Pinned memory that nobody uses any more. */
static light_status take_stage(light_device *device, stage **out)
{
    transfers *t = state_of(device)->transfers;
    *out = &t->stages[t->next_stage];
    t->next_stage = (t->next_stage + 1) % STAGES;
    return cuda_status(device, cudaEventSynchronize((*out)->done), "waiting for a copy");
}

/* Host to device on `stream`, piece by piece. */
static light_status send(light_device *device, cudaStream_t stream, char *to, const char *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += STAGE_BYTES) {
        size_t n = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES;
        stage *s;
        LIGHT_TRY(take_stage(device, &s));
        memcpy(s->data, from + at, n);
        LIGHT_TRY(cuda_status(device, cudaMemcpyAsync(to + at, s->data, n, cudaMemcpyHostToDevice, stream),
                              "copying to the device"));
        LIGHT_TRY(cuda_status(device, cudaEventRecord(s->done, stream), "copying to the device"));
    }
    return LIGHT_OK;
}

/* Starts the copy of one piece to pinned memory. */
static light_status start_receiving(light_device *device, stage *s, const char *from, size_t bytes)
{
    cudaStream_t stream = stream_of(device);
    LIGHT_TRY(cuda_status(device, cudaMemcpyAsync(s->data, from, bytes, cudaMemcpyDeviceToHost, stream),
                          "copying to the host"));
    return cuda_status(device, cudaEventRecord(s->done, stream), "copying to the host");
}

/* Device to host: the next piece is on its way while this one is moved on. */
static light_status receive(light_device *device, char *to, const char *from, size_t bytes)
{
    stage *now, *next = NULL;
    LIGHT_TRY(take_stage(device, &now));
    LIGHT_TRY(start_receiving(device, now, from, bytes < STAGE_BYTES ? bytes : STAGE_BYTES));
    for (size_t at = 0; at < bytes; at += STAGE_BYTES, now = next) {
        size_t n = bytes - at < STAGE_BYTES ? bytes - at : STAGE_BYTES, rest = bytes - at - n;
        if (rest) {
            LIGHT_TRY(take_stage(device, &next));
            LIGHT_TRY(start_receiving(device, next, from + at + n, rest < STAGE_BYTES ? rest : STAGE_BYTES));
        }
        LIGHT_TRY(cuda_status(device, cudaEventSynchronize(now->done), "waiting for the device"));
        memcpy(to + at, now->data, n);
    }
    device->synchronizations++;
    return launched(device, cudaSuccess); /* a fault of what computed it */
}

light_status copy(light_device *device, void *to, const void *from, size_t bytes, light_copy_kind kind)
{
    if (bytes == 0) return LIGHT_OK;
    LIGHT_TRY(refuse_recording(device, "copying to or from the host"));
    return kind == LIGHT_COPY_HOST_TO_DEVICE
               ? send(device, stream_of(device), (char *)to, (const char *)from, bytes)
               : receive(device, (char *)to, (const char *)from, bytes);
}

/* ---- upload -------------------------------------------------------------------- */

light_status upload_begin(light_device *device)
{
    device_state *s = state_of(device);
    transfers *t = s->transfers;
    /* All work on the last batch has been asked for: its memory is free when that is done. */
    if (t->begun)
        LIGHT_TRY(
            cuda_status(device, cudaEventRecord(t->batches[t->batch].finished, s->compute), "uploading"));
    t->begun = true;
    t->batch = (t->batch + 1) % BATCHES;
    batch_memory *b = &t->batches[t->batch];
    LIGHT_TRY(cuda_status(device, cudaStreamWaitEvent(s->upload, b->finished, 0), "uploading"));
    for (int i = 0; i < CHUNKS; i++) b->chunks[i].used = 0;
    return LIGHT_OK;
}

/* Room in the batch's memory, which is there already but for the first batches. */
static light_status take_room(light_device *device, batch_memory *b, size_t bytes, char **data)
{
    chunk *c = b->chunks;
    while (c < b->chunks + CHUNKS && c->data && c->bytes - c->used < bytes) c++;
    if (c == b->chunks + CHUNKS)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "%s: a batch has more than %d fields", device->name, CHUNKS);
    if (!c->data) {
        void *memory;
        LIGHT_TRY(cuda_status(device, cudaMalloc(&memory, bytes), "memory for batches"));
        *c = chunk{(char *)memory, bytes, 0};
    }
    *data = c->data + c->used;
    c->used += bytes;
    return LIGHT_OK;
}

light_status upload(light_device *device, const void *from, size_t bytes, void **data)
{
    device_state *s = state_of(device);
    batch_memory *b = &s->transfers->batches[s->transfers->batch];
    char *to = NULL;
    LIGHT_TRY(take_room(device, b, bytes / 256 * 256 + 256, &to));
    LIGHT_TRY(send(device, s->upload, to, (const char *)from, bytes));
    LIGHT_TRY(cuda_status(device, cudaEventRecord(b->arrived, s->upload), "uploading"));
    *data = to;
    return cuda_status(device, cudaStreamWaitEvent(s->compute, b->arrived, 0), "uploading");
}

/* ---- fetch --------------------------------------------------------------------- */

light_status fetch(light_device *device, const void *data, light_dtype dtype, int *ticket)
{
    transfers *t = state_of(device)->transfers;
    int i = t->fetches.next;
    if (t->fetches.taken[i])
        return light_fail(LIGHT_ERR_STATE, "%s: %d numbers are on their way", device->name, LIGHT_FETCHES);
    t->fetches.next = (i + 1) % LIGHT_FETCHES;
    t->fetches.taken[i] = true;
    t->fetches.dtype[i] = (uint8_t)dtype;
    LIGHT_TRY(cuda_status(device,
                          cudaMemcpyAsync(&t->fetches.data[i], data, light_dtype_size(dtype),
                                          cudaMemcpyDeviceToHost, stream_of(device)),
                          "fetching a number"));
    *ticket = i;
    return cuda_status(device, cudaEventRecord(t->fetches.done[i], stream_of(device)), "fetching a number");
}

light_status fetched(light_device *device, int ticket, bool wait, double *value)
{
    transfers *t = state_of(device)->transfers;
    cudaError_t error = cudaEventQuery(t->fetches.done[ticket]);
    if (error == cudaErrorNotReady) {
        if (!wait) return LIGHT_ERR_STATE;
        device->synchronizations++;
        error = cudaEventSynchronize(t->fetches.done[ticket]);
    }
    LIGHT_TRY(cuda_status(device, error, "fetching a number"));
    t->fetches.taken[ticket] = false;
    if (t->fetches.dtype[ticket] == LIGHT_F64) {
        *value = t->fetches.data[ticket];
    } else {
        float number;
        memcpy(&number, &t->fetches.data[ticket], sizeof number);
        *value = number;
    }
    return launched(device, cudaSuccess);
}

} // namespace light
