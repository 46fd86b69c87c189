/* SPDX-License-Identifier: Apache-2.0 */
/* Work that is recorded once and repeated as a CUDA graph: one launch instead of hundreds.
 *
 * What changes from one repetition to the next lies in device memory that recorded kernels read: the step's counter, from
 * which random numbers come, and the learning rate and step number of each optimizer call. A launch writes it first. */
#include "cuda/memory.h"
#include "cuda/vendor/gemm.h"

#include <stdlib.h>

namespace light
{

enum { MOST_CALLS = 256, TURNS = 4 };

struct changing {
    uint64_t counter;
    double numbers[2 * MOST_CALLS]; /* lr, step */
};

struct graphs {
    bool recording;
    int calls; /* of optimizers, in this record */
    changing *on_device;
    changing *pinned; /* TURNS of them, so that the host seldom waits for the one before */
    cudaEvent_t sent[TURNS];
    int turn;
};

static light_status graphs_open(light_device *device)
{
    device_state *s = state_of(device);
    if (s->graphs) return LIGHT_OK;
    s->graphs = (graphs *)calloc(1, sizeof *s->graphs);
    if (!s->graphs) return light_fail(LIGHT_ERR_MEMORY, "out of memory on the host");
    void *memory;
    LIGHT_TRY(allocate(device, sizeof(changing), &memory));
    s->graphs->on_device = (changing *)memory;
    LIGHT_TRY(cuda_status(device, cudaMallocHost((void **)&s->graphs->pinned, TURNS * sizeof(changing)),
                          "pinned memory"));
    for (int i = 0; i < TURNS; i++)
        LIGHT_TRY(cuda_status(device, cudaEventCreateWithFlags(&s->graphs->sent[i], cudaEventDisableTiming),
                              "making an event"));
    return LIGHT_OK;
}

void graph_close(light_device *device)
{
    graphs *g = state_of(device)->graphs;
    if (!g) return;
    for (int i = 0; i < TURNS; i++)
        if (g->sent[i]) cudaEventDestroy(g->sent[i]);
    if (g->pinned) cudaFreeHost(g->pinned);
    if (g->on_device) release(device, g->on_device, sizeof *g->on_device);
    free(g);
    state_of(device)->graphs = NULL;
}

/* ---- what kernels ask ------------------------------------------------------------- */

bool recording(const light_device *device)
{
    const graphs *g = state_of(device)->graphs;
    return g && g->recording;
}

light_status refuse_recording(const light_device *device, const char *what)
{
    if (!recording(device)) return LIGHT_OK;
    return light_fail(LIGHT_ERR_STATE, "%s: %s is not possible in a step that is recorded as a CUDA graph",
                      device->name, what);
}

const uint64_t *recorded_counter(const light_device *device)
{
    return recording(device) ? &state_of(device)->graphs->on_device->counter : NULL;
}

light_status recorded_numbers(const light_device *device, const double **numbers)
{
    graphs *g = state_of(device)->graphs;
    *numbers = NULL;
    if (!recording(device)) return LIGHT_OK;
    if (g->calls == MOST_CALLS)
        return light_fail(LIGHT_ERR_UNSUPPORTED,
                          "%s: a CUDA graph takes at most %d runs of neighbouring parameters", device->name,
                          MOST_CALLS);
    *numbers = &g->on_device->numbers[2 * g->calls++];
    return LIGHT_OK;
}

/* ---- recording and repeating -------------------------------------------------------- */

light_status graph_begin(light_device *device)
{
    LIGHT_TRY(graphs_open(device));
    LIGHT_TRY(prepare_gemm(device));
    graphs *g = state_of(device)->graphs;
    LIGHT_TRY(cuda_status(device, cudaStreamBeginCapture(stream_of(device), cudaStreamCaptureModeThreadLocal),
                          "beginning a graph"));
    g->recording = true;
    g->calls = 0;
    return LIGHT_OK;
}

light_status graph_end(light_device *device, void **graph)
{
    cudaGraph_t record = NULL;
    cudaGraphExec_t ready = NULL;
    state_of(device)->graphs->recording = false;
    cudaError_t error = cudaStreamEndCapture(stream_of(device), &record);
    if (error == cudaSuccess && graph) error = cudaGraphInstantiate(&ready, record, 0);
    if (record) cudaGraphDestroy(record);
    if (!graph) {
        cudaGetLastError(); /* of the record that is dropped */
        return LIGHT_OK;
    }
    *graph = ready;
    return cuda_status(device, error, "ending a graph");
}

light_status graph_launch(light_device *device, void *graph, uint64_t counter, const double *numbers, int n)
{
    graphs *g = state_of(device)->graphs;
    cudaStream_t stream = stream_of(device);
    int turn = g->turn;
    changing *c = &g->pinned[turn];
    g->turn = (turn + 1) % TURNS;
    LIGHT_TRY(cuda_status(device, cudaEventSynchronize(g->sent[turn]), "repeating a graph"));
    c->counter = counter;
    if (n) memcpy(c->numbers, numbers, (size_t)n * sizeof *numbers);
    size_t bytes = offsetof(changing, numbers) + (size_t)n * sizeof *numbers;
    LIGHT_TRY(cuda_status(device, cudaMemcpyAsync(g->on_device, c, bytes, cudaMemcpyHostToDevice, stream),
                          "repeating a graph"));
    LIGHT_TRY(cuda_status(device, cudaEventRecord(g->sent[turn], stream), "repeating a graph"));
    return launched(device, cudaGraphLaunch((cudaGraphExec_t)graph, stream));
}

void graph_free(light_device *, void *graph)
{
    if (graph) cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

} // namespace light
