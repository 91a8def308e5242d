// A double of NVIDIA's management library, for tests: it says what the files in
// the folder FAKE_NVML say, each time it is asked.
//
//   count     how many GPUs there are
//   mig N     how many parts GPU N is divided into
//   load N    its load in percent; none is "not supported"
//   memory N  the part of its memory that is in use, in percent
//   lost N    it has fallen off the bus
//   xid N     the number of a critical error that it reports
//   hang      whoever asks for a load waits for ever
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { int gpu, part; } Device;
static Device gpus[16], parts[16][8];

static int ask(const char *what, int gpu, int otherwise) {
    char path[4096];
    int value = otherwise;
    if (gpu < 0) snprintf(path, sizeof path, "%s/%s", getenv("FAKE_NVML"), what);
    else snprintf(path, sizeof path, "%s/%s%d", getenv("FAKE_NVML"), what, gpu);
    FILE *file = fopen(path, "r");
    if (!file) return otherwise;
    if (fscanf(file, "%d", &value) != 1) value = 1;
    fclose(file);
    return value;
}

enum { OK = 0, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, DRIVER = 9, TIMEOUT = 10, LOST = 15 };

int nvmlInit_v2(void) { return ask("no_driver", -1, 0) ? DRIVER : OK; }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = ask("count", -1, 0); return OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    if ((int)index >= ask("count", -1, 0)) return INVALID;
    gpus[index] = (Device){(int)index, -1};
    *device = &gpus[index];
    return OK;
}

static void uuid_of(Device *device, char *text, unsigned size) {
    if (device->part < 0) snprintf(text, size, "GPU-%d0000000-fake", device->gpu);
    else snprintf(text, size, "MIG-%d%d000000-fake", device->gpu, device->part);
}

int nvmlDeviceGetUUID(Device *device, char *text, unsigned size) {
    uuid_of(device, text, size);
    return OK;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, Device **device) {
    for (int gpu = 0; gpu < ask("count", -1, 0); gpu++)
        for (int part = -1; part < ask("mig", gpu, 0); part++) {
            Device *one = part < 0 ? &gpus[gpu] : &parts[gpu][part];
            char text[96];
            *one = (Device){gpu, part};
            uuid_of(one, text, sizeof text);
            if (strcmp(text, uuid)) continue;
            if (ask("lost", gpu, 0)) return LOST;
            *device = one;
            return OK;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetName(Device *device, char *text, unsigned size) {
    (void)device;
    snprintf(text, size, "Fake GPU");
    return OK;
}

typedef struct {
    char legacy[16];
    unsigned domain, bus, device, pci, subsystem;
    char id[32];
} Pci;

int nvmlDeviceGetPciInfo_v3(Device *device, Pci *pci) {
    memset(pci, 0, sizeof *pci);
    pci->bus = 16 + device->gpu;
    snprintf(pci->id, sizeof pci->id, "00000000:%02X:00.0", pci->bus);
    return OK;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *now, unsigned *then) {
    *now = *then = ask("mig", device->gpu, 0) > 0;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) {
    *count = ask("mig", device->gpu, 0) + 1; // one of them is a hole
    return OK;
}
int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned index, Device **part) {
    if ((int)index >= ask("mig", device->gpu, 0)) return NOT_FOUND;
    parts[device->gpu][index] = (Device){device->gpu, (int)index};
    *part = &parts[device->gpu][index];
    return OK;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(Device *part, Device **gpu) {
    gpus[part->gpu] = (Device){part->gpu, -1};
    *gpu = &gpus[part->gpu];
    return OK;
}

typedef struct { unsigned gpu, memory; } Load;
int nvmlDeviceGetUtilizationRates(Device *device, Load *load) {
    while (ask("hang", -1, 0)) pause();
    int value = ask("load", device->gpu, -1);
    if (value < 0 || device->part >= 0) return UNSUPPORTED;
    *load = (Load){(unsigned)value, 0};
    return OK;
}

typedef struct { unsigned version; unsigned long long total, reserved, free, used; } Memory;
int nvmlDeviceGetMemoryInfo_v2(Device *device, Memory *memory) {
    int value = ask("memory", device->gpu, -1);
    if (value < 0) return UNSUPPORTED;
    memory->total = 100ull << 20;
    memory->reserved = 1ull << 20;
    memory->used = (unsigned long long)value << 20;
    memory->free = memory->total - memory->used - memory->reserved;
    return OK;
}

int nvmlEventSetCreate(void **set) { static int one; *set = &one; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceRegisterEvents(Device *device, unsigned long long types, void *set) {
    (void)device, (void)types, (void)set;
    return OK;
}
typedef struct {
    Device *device;
    unsigned long long type, data;
    unsigned instance, compute;
} Event;
int nvmlEventSetWait_v2(void *set, Event *event, unsigned timeout) {
    static int told[16];
    (void)set, (void)timeout;
    for (int gpu = 0; gpu < ask("count", -1, 0); gpu++) {
        int xid = ask("xid", gpu, 0);
        if (!xid || told[gpu]++) continue;
        gpus[gpu] = (Device){gpu, -1};
        *event = (Event){&gpus[gpu], 8, (unsigned long long)xid, 0, 0};
        return OK;
    }
    return TIMEOUT;
}
