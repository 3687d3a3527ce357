/* A library with NVML's ABI whose GPUs do what a state file says: the real pynvml loads it as libnvidia-ml.so.1.
 *
 * $FAKE_NVML_STATE holds lines `key=value`, read again at every call. `0.power=250000` is GPU 0's power in NVML's unit; a
 * key that is missing is a reading this GPU does not support. `0.lost=1` loses the GPU, `0.fault=999` makes its calls fail
 * with that code, `0.hang=1` lets them hang until the line is gone, `0.xid=SERIAL:NUMBER` throws an Xid once for each new
 * serial. Signatures and numbers: nvml.h.
 * -DOLD_DRIVER leaves out what drivers before 510 did not have.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
enum { GPUS = 16, XID = 8 };

typedef struct { int index; } *Device;
typedef struct { unsigned long long registered; long serial[GPUS]; } *EventSet;
typedef struct { unsigned int pid; unsigned long long memory; unsigned int instance, compute; } Process;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } MemoryV2;
typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct { unsigned int version, sensor; int temperature; } Temperature;
typedef struct { Device device; unsigned long long type, data; unsigned int instance, compute; } Event;

static struct { int index; } devices[GPUS];

static void nap(void) { nanosleep(&(struct timespec){0, 10000000}, NULL); }

/* The value of a key; 0 where the state does not have it. */
static int text(const char *key, char *value, size_t size) {
    FILE *file = fopen(getenv("FAKE_NVML_STATE") ? getenv("FAKE_NVML_STATE") : "", "r");
    char line[4096];
    size_t length = strlen(key);
    int found = 0;
    if (!file) return 0;
    while (!found && fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && line[length] == '=') {
            line[strcspn(line, "\n")] = 0;
            snprintf(value, size, "%s", line + length + 1);
            found = 1;
        }
    fclose(file);
    return found;
}

static int number(const char *key, unsigned long long *value) {
    char buffer[64];
    if (!text(key, buffer, sizeof buffer)) return 0;
    *value = strtoull(buffer, NULL, 0);
    return 1;
}

static unsigned long long setting(const char *key, unsigned long long otherwise) {
    number(key, &otherwise);
    return otherwise;
}

static const char *of(int gpu, const char *name) {
    static __thread char key[96];
    snprintf(key, sizeof key, "%d.%s", gpu, name);
    return key;
}

/* Every call on a GPU passes here: it may hang, or the GPU be lost. */
static int reach(Device device) {
    while (setting(of(device->index, "hang"), 0)) nap();
    return setting(of(device->index, "lost"), 0) ? LOST : (int)setting(of(device->index, "fault"), OK);
}

static int read_number(Device device, const char *name, unsigned long long *value) {
    int code = reach(device);
    if (code) return code;
    return number(of(device->index, name), value) ? OK : NOT_SUPPORTED;
}

static int read_uint(Device device, const char *name, unsigned int *value) {
    unsigned long long wide;
    int code = read_number(device, name, &wide);
    if (!code) *value = (unsigned int)wide;
    return code;
}

static int read_text(Device device, const char *name, char *value, unsigned int size) {
    int code = reach(device);
    if (code) return code;
    return text(of(device->index, name), value, size) ? OK : NOT_SUPPORTED;
}

int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    while (setting("init_hang", 0)) nap();
    for (int i = 0; i < GPUS; i++) devices[i].index = i;
    return (int)setting("init", 0);
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) {
    switch (code) {
        case NOT_SUPPORTED: return "Not Supported";
        case TIMEOUT: return "Timeout";
        case LOST: return "GPU is lost";
        case 18: return "Driver/library version mismatch";
        default: return "Unknown Error";
    }
}
int nvmlSystemGetDriverVersion(char *value, unsigned int size) { return text("driver", value, size) ? OK : NOT_SUPPORTED; }
int nvmlSystemGetCudaDriverVersion_v2(int *value) {
    *value = (int)setting("cuda", 0);
    return *value ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetCount_v2(unsigned int *count) {
    *count = (unsigned int)setting("count", 0);
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device *device) {
    if (index >= setting("count", 0)) return INVALID;
    *device = (Device)&devices[index];
    return reach(*device);
}
int nvmlDeviceGetName(Device device, char *value, unsigned int size) { return read_text(device, "name", value, size); }
int nvmlDeviceGetUUID(Device device, char *value, unsigned int size) { return read_text(device, "uuid", value, size); }

int nvmlDeviceGetUtilizationRates(Device device, Utilization *value) {
    value->memory = 0;
    return read_uint(device, "utilisation", &value->gpu);
}
int nvmlDeviceGetMemoryInfo(Device device, Memory *value) {
    int code = read_number(device, "memory_total", &value->total);
    if (!code) code = read_number(device, "memory_used", &value->used);
    value->used += setting(of(device->index, "memory_reserved"), 0); /* as the real one counts it here */
    value->free = value->total - value->used;
    return code;
}
int nvmlDeviceGetPowerUsage(Device device, unsigned int *value) { return read_uint(device, "power", value); }
int nvmlDeviceGetEnforcedPowerLimit(Device device, unsigned int *value) { return read_uint(device, "power_limit", value); }
int nvmlDeviceGetTemperature(Device device, unsigned int sensor, unsigned int *value) {
    (void)sensor;
    return read_uint(device, "temperature", value);
}
int nvmlDeviceGetClockInfo(Device device, unsigned int kind, unsigned int *value) {
    return read_uint(device, kind == 1 ? "clock_sm" : kind == 2 ? "clock_memory" : "clock_other", value);
}
int nvmlDeviceGetCurrentClocksThrottleReasons(Device device, unsigned long long *value) { return read_number(device, "throttle", value); }

/* `0.processes=PID:BYTES,PID:BYTES`; -1 bytes is "not available". */
static int processes(Device device, const char *name, unsigned int *count, Process *list) {
    char value[1024], *rest = value, *entry;
    unsigned int room = *count, found = 0;
    int code = reach(device);
    if (code) return code;
    if (!text(of(device->index, name), value, sizeof value)) return NOT_SUPPORTED;
    while ((entry = strsep(&rest, ",")) && *entry) {
        char *colon = strchr(entry, ':');
        if (list && found < room) {
            list[found].pid = (unsigned int)strtoul(entry, NULL, 10);
            list[found].memory = colon ? strtoull(colon + 1, NULL, 10) : ~0ULL;
            list[found].instance = list[found].compute = ~0U;
        }
        found++;
    }
    *count = found;
    return found > room ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(Device device, unsigned int *count, Process *list) {
    return processes(device, "processes", count, list);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(Device device, unsigned int *count, Process *list) {
    return processes(device, "graphics", count, list);
}
#ifndef OLD_DRIVER
int nvmlDeviceGetComputeRunningProcesses_v3(Device device, unsigned int *count, Process *list) {
    return processes(device, "processes", count, list);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(Device device, unsigned int *count, Process *list) {
    return processes(device, "graphics", count, list);
}
int nvmlDeviceGetMemoryInfo_v2(Device device, MemoryV2 *value) {
    int code = read_number(device, "memory_total", &value->total);
    if (!code) code = read_number(device, "memory_used", &value->used);
    value->reserved = setting(of(device->index, "memory_reserved"), 0);
    value->free = value->total - value->reserved - value->used;
    return code;
}
int nvmlDeviceGetTemperatureV(Device device, Temperature *value) {
    return read_uint(device, "temperature", (unsigned int *)&value->temperature);
}
int nvmlDeviceGetCurrentClocksEventReasons(Device device, unsigned long long *value) { return read_number(device, "throttle", value); }
#endif

int nvmlDeviceGetPcieThroughput(Device device, unsigned int counter, unsigned int *value) {
    return read_uint(device, counter == 0 ? "pcie_tx" : "pcie_rx", value);
}
int nvmlDeviceGetCurrPcieLinkGeneration(Device device, unsigned int *value) { return read_uint(device, "pcie_generation", value); }
int nvmlDeviceGetCurrPcieLinkWidth(Device device, unsigned int *value) { return read_uint(device, "pcie_width", value); }
int nvmlDeviceGetTotalEccErrors(Device device, unsigned int kind, unsigned int counter, unsigned long long *value) {
    (void)counter;
    return read_number(device, kind == 1 ? "ecc_uncorrected" : "ecc_corrected", value);
}
int nvmlDeviceGetTotalEnergyConsumption(Device device, unsigned long long *value) { return read_number(device, "energy", value); }

int nvmlDeviceGetSupportedEventTypes(Device device, unsigned long long *value) {
    *value = setting(of(device->index, "no_events"), 0) ? 0 : XID;
    return reach(device);
}
int nvmlEventSetCreate(EventSet *set) { return (*set = calloc(1, sizeof **set)) ? OK : 999; }
int nvmlEventSetFree(EventSet set) {
    free(set);
    return OK;
}
int nvmlDeviceRegisterEvents(Device device, unsigned long long types, EventSet set) {
    if (types & XID) set->registered |= 1ULL << device->index;
    return OK;
}
int nvmlEventSetWait_v2(EventSet set, Event *event, unsigned int milliseconds) {
    for (unsigned int waited = 0; waited <= milliseconds; waited += 10, nap())
        for (int gpu = 0; gpu < GPUS; gpu++) {
            char value[64];
            long serial, xid;
            if (!(set->registered >> gpu & 1) || !text(of(gpu, "xid"), value, sizeof value)) continue;
            if (sscanf(value, "%ld:%ld", &serial, &xid) != 2 || serial <= set->serial[gpu]) continue;
            set->serial[gpu] = serial;
            *event = (Event){(Device)&devices[gpu], XID, (unsigned long long)xid, ~0U, ~0U};
            return OK;
        }
    return TIMEOUT;
}
