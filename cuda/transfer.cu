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
static const size_t STAGE_BYTES = (size_t)4 << 20, CHUNK_BYTES = (size_t)1 << 20;

/* Pinned memory that is in use until its event has happened. */
struct stage {
    void *data;
    cudaEvent_t done;
};

/* The device memory of a batch. A batch that does not fit takes more chunks, which are joined before the next. */
struct chunk {
    char *data;
    size_t bytes, used;
};
struct batch_memory {
    chunk chunks[CHUNKS];
    cudaEvent_t begun; /* what had been asked of the device when the batch began */
    cudaEvent_t arrived;
};

struct transfers {
    stage stages[STAGES];
    int next_stage;
    batch_memory batches[BATCHES];
    int batch; /* the last one */
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
        LIGHT_TRY(new_event(device, &t->batches[i].begun));
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
        if (t->batches[i].begun) cudaEventDestroy(t->batches[i].begun);
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
    return take_fault(device); /* of what computed it */
}

light_status copy(light_device *device, void *to, const void *from, size_t bytes, light_copy_kind kind)
{
    if (bytes == 0) return LIGHT_OK;
    LIGHT_TRY(refuse_recording(device, "copying to or from the host"));
    held mutex(device);
    return kind == LIGHT_COPY_HOST_TO_DEVICE
               ? send(device, stream_of(device), (char *)to, (const char *)from, bytes)
               : receive(device, (char *)to, (const char *)from, bytes);
}

/* ---- upload -------------------------------------------------------------------- */

static light_status new_chunk(light_device *device, chunk *c, size_t bytes)
{
    void *memory;
    LIGHT_TRY(ask_cuda(device, bytes, &memory));
    *c = chunk{(char *)memory, bytes, 0};
    return LIGHT_OK;
}

/* One chunk instead of several; waits for the device, as CUDA does when memory is freed. */
static light_status join_chunks(light_device *device, batch_memory *b)
{
    size_t bytes = 0;
    for (int i = 0; i < CHUNKS && b->chunks[i].data; i++) {
        bytes += b->chunks[i].bytes;
        cudaFree(b->chunks[i].data);
        b->chunks[i] = chunk{};
    }
    return new_chunk(device, b->chunks, bytes);
}

light_status upload_begin(light_device *device)
{
    held mutex(device);
    device_state *s = state_of(device);
    transfers *t = s->transfers;
    batch_memory *before = &t->batches[t->batch];
    t->batch = (t->batch + 1) % BATCHES;
    batch_memory *b = &t->batches[t->batch];
    /* The memory's last batch was given up when the batch before this one began. */
    LIGHT_TRY(cuda_status(device, cudaStreamWaitEvent(s->upload, before->begun, 0), "uploading"));
    LIGHT_TRY(cuda_status(device, cudaEventRecord(b->begun, s->compute), "uploading"));
    for (int i = 0; i < CHUNKS; i++) b->chunks[i].used = 0;
    return b->chunks[1].data ? join_chunks(device, b) : LIGHT_OK;
}

/* Room in the batch's memory, which is there already unless the batch is larger than all before. */
static light_status take_room(light_device *device, batch_memory *b, size_t bytes, char **data)
{
    chunk *c = b->chunks;
    while (c < b->chunks + CHUNKS && c->data && c->bytes - c->used < bytes) c++;
    if (c == b->chunks + CHUNKS)
        return light_fail(LIGHT_ERR_UNSUPPORTED, "%s: the first batch has more than %d large fields",
                          device->name, CHUNKS);
    if (!c->data) LIGHT_TRY(new_chunk(device, c, bytes < CHUNK_BYTES ? CHUNK_BYTES : bytes));
    *data = c->data + c->used;
    c->used += bytes;
    return LIGHT_OK;
}

light_status upload(light_device *device, const void *from, size_t bytes, void **data)
{
    held mutex(device);
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
    for (int n = 0; n < LIGHT_FETCHES && t->fetches.taken[i]; n++) i = (i + 1) % LIGHT_FETCHES;
    if (t->fetches.taken[i])
        return light_fail(LIGHT_ERR_STATE, "%s: %d numbers are on their way", device->name, LIGHT_FETCHES);
    LIGHT_TRY(cuda_status(device,
                          cudaMemcpyAsync(&t->fetches.data[i], data, light_dtype_size(dtype),
                                          cudaMemcpyDeviceToHost, stream_of(device)),
                          "fetching a number"));
    LIGHT_TRY(
        cuda_status(device, cudaEventRecord(t->fetches.done[i], stream_of(device)), "fetching a number"));
    t->fetches.next = (i + 1) % LIGHT_FETCHES;
    t->fetches.taken[i] = true;
    t->fetches.dtype[i] = (uint8_t)dtype;
    *ticket = i;
    return LIGHT_OK;
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
    return take_fault(device);
}

} // namespace light
