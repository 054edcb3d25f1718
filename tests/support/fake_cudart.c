/* A CUDA runtime library for machines without a GPU: "device" memory is plain memory, and every call is written down.

Work happens at once, in the order of the calls; what was queued on which stream, and what waited for which event, is
in the log. The nth allocation can be made to fail. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OUT_OF_MEMORY 2
#define NOT_MADE 400

static char log_text[1 << 16];
static size_t log_used;
static long next_id = 100;
static int live, allocations, failing = -1, refused_set_device;
static int last_device, on_wrong_device; /* the device that any thread set last; calls by threads on another one */
static _Thread_local int device;         /* each thread has its own, and begins on 0 */

static void note(const char *format, ...) {
    va_list arguments;
    if (log_used + 256 > sizeof log_text) { /* full: what comes later is not written down */
        return;
    }
    va_start(arguments, format);
    log_used += vsnprintf(log_text + log_used, sizeof log_text - log_used, format, arguments);
    va_end(arguments);
}

const char *fake_log(void) { return log_text; }
int fake_live(void) { return live; }
int fake_allocations(void) { return allocations; }
int fake_on_wrong_device(void) { return on_wrong_device; }

void fake_reset(int fail_at) {
    log_used = 0;
    log_text[0] = 0;
    live = allocations = refused_set_device = last_device = on_wrong_device = device = 0;
    failing = fail_at;
}

void fake_refuse_device(void) { refused_set_device = 1; }

static int made(void **out, void *value) {
    on_wrong_device += device != last_device;
    if (allocations++ == failing) {
        return OUT_OF_MEMORY;
    }
    live++;
    *out = value;
    return 0;
}

static int ended(void *what) {
    if (what == NULL) {
        return NOT_MADE;
    }
    live--;
    return 0;
}

int cudaSetDevice(int index) {
    note("device %d\n", index);
    device = last_device = index;
    return refused_set_device ? 101 : 0;
}

static int memory(void **out, size_t size) {
    void *taken = calloc(1, size);
    int status = made(out, taken);
    if (status) {
        free(taken);
    }
    return status;
}

static int given_back(void *what) {
    int status = ended(what);
    free(what);
    return status;
}

int cudaMalloc(void **out, size_t size) { note("malloc %zu\n", size); return memory(out, size); }
int cudaMallocHost(void **out, size_t size) { note("pinned %zu\n", size); return memory(out, size); }
int cudaFree(void *what) { note("free\n"); return given_back(what); }
int cudaFreeHost(void *what) { note("unpin\n"); return given_back(what); }

int cudaStreamCreateWithFlags(void **out, unsigned flags) {
    (void)flags;
    note("stream %ld\n", next_id);
    return made(out, (void *)next_id++);
}

int cudaEventCreate(void **out) { return made(out, (void *)next_id++); }
int cudaStreamDestroy(void *what) { note("end stream\n"); return ended(what); }
int cudaEventDestroy(void *what) { return ended(what); }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    on_wrong_device += device != last_device;
    note("%s on %ld\n", kind == 1 ? "upload" : "download", (long)stream);
    memcpy(to, from, size);
    return 0;
}

int cudaEventRecord(void *event, void *stream) { note("record %ld on %ld\n", (long)event, (long)stream); return 0; }
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags) {
    (void)flags;
    note("%ld waits for %ld\n", (long)stream, (long)event);
    return 0;
}

int cudaEventSynchronize(void *event) { note("host waits for %ld\n", (long)event); return 0; }
int cudaStreamSynchronize(void *stream) { note("host empties %ld\n", (long)stream); return 0; }
const char *cudaGetErrorString(int status) { return status == OUT_OF_MEMORY ? "out of memory" : "some failure"; }
