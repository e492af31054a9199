// A CUDA driver with faults: loaded before the virtual GPU, it answers the program's lookups of `cu...` functions.
//
// FAULT_LACKS=NAME    there is no such function
// FAULT_FAILS=NAME    every call of this function answers FAULT_CODE
// FAULT_AT=K          the K-th call of all, from 1, answers FAULT_CODE
// FAULT_CODE=CODE     the answer [default: 999, CUDA_ERROR_UNKNOWN]
// FAULT_DEVICES=N     cuDeviceGetCount counts N devices
// FAULT_LOG=FILE      gets a line for each lookup and each call: "lookup NAME", "call NAME"

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void *(*lookup)(void *, const char *);
// Every function of the driver that is called here takes at most eleven arguments, all of them integers or addresses.
typedef int (*function)(long, long, long, long, long, long, long, long, long, long, long);

enum { MOST = 64 };
static struct { char name[64]; function real; } known[MOST];
static int count;
static long calls;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static int is(const char *variable, const char *name) {
    const char *text = getenv(variable);
    return text && strcmp(text, name) == 0;
}

static void note(const char *what, const char *name) {
    const char *file = getenv("FAULT_LOG");
    if (!file) return;
    char line[96];
    int length = snprintf(line, sizeof line, "%s %s\n", what, name);
    int log = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (log < 0 || write(log, line, length) != length) abort();
    close(log);
}

// Whether this call of a function fails.
static int fails(int i) {
    note("call", known[i].name);
    return is("FAULT_FAILS", known[i].name) || __sync_add_and_fetch(&calls, 1) == number("FAULT_AT", 0);
}

#define CALL(i)                                                                                                     \
    static int call_##i(long a, long b, long c, long d, long e, long f, long g, long h, long j, long k, long l) {  \
        if (fails(i)) return (int)number("FAULT_CODE", 999);                                                        \
        if (getenv("FAULT_DEVICES") && strcmp(known[i].name, "cuDeviceGetCount") == 0) {                            \
            *(int *)a = (int)number("FAULT_DEVICES", 0);                                                            \
            return 0;                                                                                               \
        }                                                                                                           \
        return known[i].real(a, b, c, d, e, f, g, h, j, k, l);                                                      \
    }
#define ROW(t)                                                                                                      \
    CALL(t##0) CALL(t##1) CALL(t##2) CALL(t##3) CALL(t##4) CALL(t##5) CALL(t##6) CALL(t##7)
#define NAME(i) call_##i,
#define ROW_NAMES(t)                                                                                                \
    NAME(t##0) NAME(t##1) NAME(t##2) NAME(t##3) NAME(t##4) NAME(t##5) NAME(t##6) NAME(t##7)
// Octal numbers, so that eight of them make a row.
ROW(0) ROW(01) ROW(02) ROW(03) ROW(04) ROW(05) ROW(06) ROW(07)
static const function entry[MOST] = {
    ROW_NAMES(0) ROW_NAMES(01) ROW_NAMES(02) ROW_NAMES(03) ROW_NAMES(04) ROW_NAMES(05) ROW_NAMES(06) ROW_NAMES(07)
};

#if defined(__x86_64__)
#define GLIBC "GLIBC_2.2.5"
#elif defined(__aarch64__)
#define GLIBC "GLIBC_2.17"
#endif

void *dlsym(void *library, const char *name) {
    static lookup real;
    if (!real) real = (lookup)dlvsym(RTLD_NEXT, "dlsym", GLIBC);
    if (strncmp(name, "cu", 2) != 0) return real(library, name);
    note("lookup", name);
    // A name that no library has, so that the caller gets the loader's message.
    if (is("FAULT_LACKS", name)) return real(library, "a function that is lacking");
    void *found = real(library, name);
    if (!found) return found;
    for (int i = 0; i < count; i++)
        if (strcmp(known[i].name, name) == 0) return entry[i];
    if (count == MOST) abort();
    strncpy(known[count].name, name, sizeof known[count].name - 1);
    known[count].real = (function)found;
    return entry[count++];
}
