// As much of libnccl.so as atlas calls, without a GPU: sums host memory over the ranks at once,
// through shared memory, and writes down the calls. FAKE_NCCL_FAIL=RANK:FUNCTION:K:CODE lets the
// K-th call of a function fail on a rank, and ncclCommGetAsyncError report an error.
#include "fake_log.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { SUCCESS = 0, SYSTEM_ERROR = 2, INVALID_ARGUMENT = 4, RANKS = 8, CHUNK = 1 << 20 };
enum { FLOAT32 = 7, FLOAT64 = 8, BFLOAT16 = 9 };

typedef struct {
    unsigned char bytes[128];
} Id;

typedef struct {
    pthread_barrier_t barrier;
    atomic_int ready;
    unsigned char chunk[RANKS][CHUNK];
} Shared;

typedef struct {
    int rank, ranks;
    Shared *shared;
} Comm;

static char last_error[256];

static int failing(const char *function) {
    static atomic_int calls;
    int k, code;
    char rank[16], name[64];
    const char *wish = getenv("FAKE_NCCL_FAIL");
    if (!wish || sscanf(wish, "%15[^:]:%63[^:]:%d:%d", rank, name, &k, &code) != 4) return SUCCESS;
    if (strcmp(rank, rank_here()) || strcmp(name, function) || ++calls != k) return SUCCESS;
    say("%s fails code=%d", function, code);
    snprintf(last_error, sizeof last_error, "the test wants it\n");
    return code;
}

static uint64_t hash(const Id *id) {
    uint64_t h = 14695981039346656037u;
    for (int i = 0; i < 128; i++) h = (h ^ id->bytes[i]) * 1099511628211u;
    return h;
}

int ncclGetUniqueId(Id *id) {
    int code = failing("ncclGetUniqueId");
    if (code) return code;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t x = now.tv_nsec * 4294967291u + getpid();
    for (int i = 0; i < 128; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        id->bytes[i] = x >> 56; // zeros, too
    }
    id->bytes[0] = 0, id->bytes[127] = 255;
    say("ncclGetUniqueId id=%016lx", hash(id));
    return SUCCESS;
}

// Rank 0 makes the memory, the others wait for it; its name goes once all have it.
int ncclCommInitRank(Comm **comm, int ranks, Id id, int rank) {
    say("ncclCommInitRank id=%016lx rank=%d ranks=%d", hash(&id), rank, ranks);
    int code = failing("ncclCommInitRank");
    if (code) return code;
    if (ranks < 1 || ranks > RANKS || rank < 0 || rank >= ranks) return INVALID_ARGUMENT;
    char name[64];
    snprintf(name, sizeof name, "/fake-nccl-%016lx", hash(&id));
    int file = -1;
    struct stat made = {0};
    for (int tries = 0; tries < 10000 && made.st_size == 0; tries++) {
        if (file < 0) file = shm_open(name, rank ? O_RDWR : O_RDWR | O_CREAT | O_EXCL, 0600);
        if (file >= 0 && ((rank == 0 && ftruncate(file, sizeof(Shared))) || fstat(file, &made))) {
            return SYSTEM_ERROR;
        }
        if (made.st_size == 0) usleep(1000);
    }
    if (made.st_size == 0) return SYSTEM_ERROR;
    Shared *shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (shared == MAP_FAILED) return SYSTEM_ERROR;
    if (rank == 0) {
        pthread_barrierattr_t attributes;
        pthread_barrierattr_init(&attributes);
        pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
        pthread_barrier_init(&shared->barrier, &attributes, ranks);
        shared->ready = 1;
    }
    while (!shared->ready) usleep(1000);
    pthread_barrier_wait(&shared->barrier);
    if (rank == 0) shm_unlink(name);
    *comm = malloc(sizeof(Comm));
    **comm = (Comm){rank, ranks, shared};
    return SUCCESS;
}

static float wide(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

// The nearest bf16, ties to even.
static uint16_t narrow(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

#define SUM(type, wider, from, to)                                     \
    for (size_t i = 0; i < bytes / sizeof(type); i++) {                \
        wider sum = 0;                                                 \
        for (int r = 0; r < comm->ranks; r++) {                        \
            sum += from(((const type *)comm->shared->chunk[r])[i]);    \
        }                                                              \
        ((type *)at)[i] = to(sum);                                     \
    }

int ncclAllReduce(const void *send, void *receive, size_t count, int type, int op, Comm *comm,
                  void *stream) {
    say("ncclAllReduce send=%p receive=%p count=%zu type=%d op=%d stream=%zu", send, receive, count,
        type, op, (size_t)stream);
    int code = failing("ncclAllReduce");
    if (code) return code;
    size_t size = type == FLOAT32 ? 4 : type == FLOAT64 ? 8 : type == BFLOAT16 ? 2 : 0;
    if (size == 0 || op != 0) return INVALID_ARGUMENT;
    for (size_t done = 0; done < count * size; done += CHUNK) {
        size_t bytes = count * size - done < CHUNK ? count * size - done : CHUNK;
        char *at = (char *)receive + done;
        memcpy(comm->shared->chunk[comm->rank], (const char *)send + done, bytes);
        pthread_barrier_wait(&comm->shared->barrier);
        if (type == FLOAT32) SUM(float, float, , )
        if (type == FLOAT64) SUM(double, double, , )
        if (type == BFLOAT16) SUM(uint16_t, float, wide, narrow)
        pthread_barrier_wait(&comm->shared->barrier);
    }
    return SUCCESS;
}

int ncclCommGetAsyncError(Comm *comm, int *error) {
    *error = comm->ranks ? failing("ncclCommGetAsyncError") : INVALID_ARGUMENT;
    return SUCCESS;
}

// Stays allocated, so that a call that comes too late is seen.
int ncclCommDestroy(Comm *comm) {
    say("ncclCommDestroy");
    if (!comm->ranks) return INVALID_ARGUMENT;
    comm->ranks = 0;
    return SUCCESS;
}

int ncclGetVersion(int *version) { return *version = 22809, SUCCESS; }

const char *ncclGetErrorString(int code) {
    switch (code) {
    case 1: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
    case 2: return "unhandled system error (run with NCCL_DEBUG=INFO for details)";
    case 4: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
    case 6: return "remote process exited or there was a network error";
    default: return "unknown result code";
    }
}

const char *ncclGetLastError(Comm *comm) { return (void)comm, last_error; }
