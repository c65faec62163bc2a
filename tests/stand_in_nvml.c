/* A stand-in for libnvidia-ml.so.1 that serves the machine which the file $STAND_IN_NVML describes:
 *
 *   init CODE | init hang | init crash        instead of starting
 *   driver VERSION CUDA                       535.161.08 12020
 *   gpu NAME|UUID|total|free|major|minor|uncorrected|pending|failed|throttle|links|pid|used|SERIAL|busy
 *   slice NAME|UUID|total|free                of the GPU before it, by MIG
 *   lost                                      a GPU that does not answer any more
 *
 * Memory is in MiB; -1 stands for what a card does not say. Types and numbers are nvml.h's.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, SMALL = 7, LOST = 15 };

struct gpu {
    char name[96], uuid[80], serial[32];
    long total, free_, major, minor, uncorrected, pending, failed, throttle, links, pid, used, busy;
    int slice, lost;
    struct gpu *parent;
};

static struct gpu gpus[64];
static int count, started = -1, cuda;
static char driver[80];

static long number(char **rest, long otherwise) {
    char *word = *rest ? strsep(rest, "|") : NULL;
    return word && *word ? strtol(word, NULL, 0) : otherwise;
}

static void word(char **rest, char *to, size_t size) {
    char *found = *rest ? strsep(rest, "|") : NULL;
    snprintf(to, size, "%s", found ? found : "");
}

static void add(char *rest, int slice) {
    static struct gpu *parent;
    struct gpu *one = &gpus[count++];
    word(&rest, one->name, sizeof one->name);
    word(&rest, one->uuid, sizeof one->uuid);
    one->total = number(&rest, -1);
    one->free_ = number(&rest, one->total);
    one->major = number(&rest, -1);
    one->minor = number(&rest, 0);
    one->uncorrected = number(&rest, -1);
    one->pending = number(&rest, 0);
    one->failed = number(&rest, 0);
    one->throttle = number(&rest, 0);
    one->links = number(&rest, -1);
    one->pid = number(&rest, 0);
    one->used = number(&rest, 0);
    word(&rest, one->serial, sizeof one->serial);
    one->busy = number(&rest, -1);
    one->slice = slice;
    if (slice) one->parent = parent;
    else parent = one;
}

int nvmlInitWithFlags(unsigned flags) {
    char line[512];
    FILE *file = fopen(getenv("STAND_IN_NVML") ? getenv("STAND_IN_NVML") : "", "r");
    (void)flags;
    if (!file) return 999;
    for (started = 0; fgets(line, sizeof line, file);) {
        line[strcspn(line, "\n")] = 0;
        if (!strcmp(line, "init hang")) sleep(60);
        if (!strcmp(line, "init crash")) abort();
        if (!strncmp(line, "init ", 5)) return atoi(line + 5);
        if (sscanf(line, "driver %79s %d", driver, &cuda)) continue;
        if (!strncmp(line, "gpu ", 4)) add(line + 4, 0);
        if (!strncmp(line, "slice ", 6)) add(line + 6, 1);
        if (!strcmp(line, "lost")) gpus[count++].lost = 1;
    }
    fclose(file);
    return OK;
}

int nvmlShutdown(void) { return OK; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case 9: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *to, unsigned size) {
    snprintf(to, size, "%s", driver);
    return OK;
}

int nvmlSystemGetCudaDriverVersion_v2(int *to) {
    *to = cuda;
    return OK;
}

static struct gpu *at(unsigned index, int slice, struct gpu *parent) {
    for (int i = 0; i < count; i++)
        if (gpus[i].slice == slice && (!slice || gpus[i].parent == parent) && !index--)
            return &gpus[i];
    return NULL;
}

int nvmlDeviceGetCount_v2(unsigned *to) {
    for (*to = 0; at(*to, 0, NULL);) ++*to;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **to) {
    *to = at(index, 0, NULL);
    return !*to ? INVALID : (*to)->lost ? LOST : OK;
}

int nvmlDeviceGetName(struct gpu *one, char *to, unsigned size) {
    snprintf(to, size, "%s", one->name);
    return OK;
}

int nvmlDeviceGetUUID(struct gpu *one, char *to, unsigned size) {
    snprintf(to, size, "%s", one->uuid);
    return OK;
}

int nvmlDeviceGetSerial(struct gpu *one, char *to, unsigned size) {
    snprintf(to, size, "%s", one->serial);
    return *one->serial ? OK : UNSUPPORTED;
}

int nvmlDeviceGetMemoryInfo(struct gpu *one, unsigned long long to[3]) {
    if (one->total < 0) return UNSUPPORTED;
    to[0] = (unsigned long long)one->total << 20;
    to[1] = (unsigned long long)one->free_ << 20;
    to[2] = to[0] - to[1];
    return OK;
}

int nvmlDeviceGetCudaComputeCapability(struct gpu *one, int *major, int *minor) {
    *major = (int)one->major;
    *minor = (int)one->minor;
    return one->major < 0 ? UNSUPPORTED : OK;
}

int nvmlDeviceGetUtilizationRates(struct gpu *one, unsigned to[2]) {
    if (one->busy < 0) return UNSUPPORTED;
    to[0] = (unsigned)one->busy;
    to[1] = 0;
    return OK;
}

struct process {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

int nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *one, unsigned *size, struct process *to) {
    unsigned found = one->pid ? 1 : 0, room = *size;
    *size = found;
    if (!found) return OK;
    if (room < found || !to) return SMALL;
    to[0] = (struct process){(unsigned)one->pid, (unsigned long long)one->used << 20, 0, 0};
    return OK;
}

int nvmlSystemGetProcessName(unsigned pid, char *to, unsigned size) {
    (void)pid;
    snprintf(to, size, "python3");
    return OK;
}

int nvmlDeviceGetTotalEccErrors(struct gpu *one, int type, int counter, unsigned long long *to) {
    if (one->uncorrected < 0) return UNSUPPORTED;
    *to = type == 1 && counter == 0 ? (unsigned long long)one->uncorrected : 0;
    return OK;
}

int nvmlDeviceGetRemappedRows(struct gpu *one, unsigned *a, unsigned *b, unsigned *c, unsigned *d) {
    if (one->uncorrected < 0) return UNSUPPORTED;
    *a = *b = 0;
    *c = (unsigned)one->pending;
    *d = (unsigned)one->failed;
    return OK;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct gpu *one, unsigned long long *to) {
    *to = (unsigned long long)one->throttle;
    return OK;
}

int nvmlDeviceGetNvLinkState(struct gpu *one, unsigned link, unsigned *to) {
    if (one->links < 0 || link >= 12) return one->links < 0 ? UNSUPPORTED : INVALID;
    *to = link < (unsigned)one->links;
    return OK;
}

int nvmlDeviceGetMigMode(struct gpu *one, unsigned *now, unsigned *later) {
    *now = *later = at(0, 1, one) != NULL;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(struct gpu *one, unsigned *to) {
    (void)one;
    *to = 7;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct gpu *one, unsigned index, struct gpu **to) {
    *to = at(index, 1, one);
    return *to ? OK : NOT_FOUND;
}
