// As much of libcuda.so as atlas calls, without a GPU: writes down the calls, and refuses handles
// that do not live and threads without a context.
#include "fake_log.h"
#include <stdint.h>
#include <string.h>

enum { OK = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101 };
enum { INVALID_CONTEXT = 201, INVALID_HANDLE = 400 };
enum { GPUS = 8, HANDLES = 256 };

static int retained[GPUS];
static __thread uintptr_t current;
// Handles count from 1; streams and events are told apart by the hundred.
static char live[HANDLES];
static uintptr_t streams = 100, events = 200;

static int in_context(void) { return current > 0 && retained[current - 1] > 0; }
static int is_stream(uintptr_t s) { return s == 0 || (s > 100 && s <= streams && live[s]); }
static int is_event(uintptr_t e) { return e > 200 && e <= events && live[e]; }

int cuInit(unsigned flags) { return say("cuInit"), flags ? INVALID_VALUE : OK; }

int cuDriverGetVersion(int *version) { return *version = 12080, OK; }

int cuDeviceGetCount(int *count) { return *count = GPUS, OK; }

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    *bytes = (size_t)80 << 30;
    return device < GPUS ? OK : INVALID_DEVICE;
}

int cuDeviceGet(int *device, int index) {
    say("cuDeviceGet index=%d", index);
    if (index < 0 || index >= GPUS) return INVALID_DEVICE;
    *device = index;
    return OK;
}

int cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "Fake GPU %d", device);
    return OK;
}

int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    for (int i = 0; i < 16; i++) uuid[i] = 0xf0 + i - device;
    return OK;
}

int cuDevicePrimaryCtxRetain(uintptr_t *context, int device) {
    say("cuDevicePrimaryCtxRetain device=%d", device);
    retained[device]++;
    *context = device + 1;
    return OK;
}

int cuDevicePrimaryCtxRelease_v2(int device) {
    say("cuDevicePrimaryCtxRelease device=%d", device);
    return retained[device]-- > 0 ? OK : INVALID_CONTEXT;
}

int cuCtxSetCurrent(uintptr_t context) {
    current = context;
    return in_context() ? OK : INVALID_CONTEXT;
}

int cuStreamCreate(uintptr_t *stream, unsigned flags) {
    if (!in_context()) return INVALID_CONTEXT;
    *stream = ++streams;
    live[*stream] = 1;
    say("cuStreamCreate stream=%zu flags=%u", *stream, flags);
    return OK;
}

int cuStreamDestroy_v2(uintptr_t stream) {
    say("cuStreamDestroy stream=%zu", stream);
    if (!in_context() || stream == 0 || !is_stream(stream)) return INVALID_HANDLE;
    live[stream] = 0;
    return OK;
}

int cuStreamWaitEvent(uintptr_t stream, uintptr_t event, unsigned flags) {
    say("cuStreamWaitEvent stream=%zu event=%zu flags=%u", stream, event, flags);
    if (!in_context()) return INVALID_CONTEXT;
    return is_stream(stream) && is_event(event) ? OK : INVALID_HANDLE;
}

int cuEventCreate(uintptr_t *event, unsigned flags) {
    if (!in_context()) return INVALID_CONTEXT;
    if (events + 1 >= HANDLES) return INVALID_VALUE;
    *event = ++events;
    live[*event] = 1;
    say("cuEventCreate event=%zu flags=%u", *event, flags);
    return OK;
}

int cuEventRecord(uintptr_t event, uintptr_t stream) {
    say("cuEventRecord event=%zu stream=%zu", event, stream);
    if (!in_context()) return INVALID_CONTEXT;
    return is_stream(stream) && is_event(event) ? OK : INVALID_HANDLE;
}

int cuEventDestroy_v2(uintptr_t event) {
    say("cuEventDestroy event=%zu", event);
    if (!in_context() || !is_event(event)) return INVALID_HANDLE;
    live[event] = 0;
    return OK;
}

int cuGetErrorString(int code, const char **text) {
    *text = code == INVALID_CONTEXT  ? "invalid device context"
            : code == INVALID_DEVICE ? "invalid device ordinal"
                                     : "invalid argument";
    return OK;
}
