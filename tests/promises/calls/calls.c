// Stands between a program and the C library's calls on files below one folder. It numbers these calls from 1, writes
// each to a log, and lets one of them fail, or ends the program at it. The environment says which:
//
//   CALLS_UNDER  the folder, an absolute path
//   CALLS_LOG    a file that gets a line for each call: its name and its path
//   CALLS_AT     the number of the call that fails
//   CALLS_ONLY   instead of CALLS_AT: the name of the calls that fail, each time
//   CALLS_FROM   if set, calls after CALLS_AT that could take space on the disk fail too, as on one that stays full
//   CALLS_DO     what happens there: an error's number; "short": a write takes only a half, and the next goes on;
//                "kill": SIGKILL before the call; "tear": SIGKILL after half of a write
//   CALLS_GATE   a file that the first call waits for
//
// One thread of the program is expected to call; the others do not touch the folder.

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// The next definition of a function, which is the C library's.
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { PASS, FAIL, HALF };

static void append(const char *line) {
    const char *log = getenv("CALLS_LOG");
    if (!log) return;
    long fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, strlen(line));
    syscall(SYS_close, fd);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

// Whether the call is one for which a full disk has no space.
static int takes_space(const char *name, int creates) {
    return !strcmp(name, "write") || !strcmp(name, "mkdir") || (!strcmp(name, "open") && creates);
}

// Decides about a call on `path`. `bytes` is what a write would write, or else 0; `creates` tells of an open whether it may
// make a file.
static int decide(const char *name, const char *path, size_t bytes, int creates) {
    static int number;
    const char *under = getenv("CALLS_UNDER");
    size_t length = under ? strlen(under) : 0;
    if (!under || strncmp(path, under, length) || (path[length] && path[length] != '/')) return PASS;
    const char *gate = getenv("CALLS_GATE");
    if (!number++ && gate) {
        append("waiting\n");
        struct stat status;
        while (syscall(SYS_newfstatat, AT_FDCWD, gate, &status, 0)) usleep(50);
    }
    char line[PATH_MAX + 64];
    snprintf(line, sizeof line, "%s %s\n", name, path);
    append(line);
    const char *what = getenv("CALLS_DO"), *at = getenv("CALLS_AT"), *only = getenv("CALLS_ONLY");
    if (!what) return PASS;
    int here = at && atoi(at) == number;
    int later = at && getenv("CALLS_FROM") && number > atoi(at) && takes_space(name, creates);
    if (!here && !later && !(only && !strcmp(only, name))) return PASS;
    if (!strcmp(what, "kill")) die();
    if (!strcmp(what, "tear") || !strcmp(what, "short")) return bytes > 1 ? HALF : PASS;
    errno = atoi(what);
    return FAIL;
}

// The path of a call on a file descriptor.
static const char *path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return path;
}

// The absolute path of a call on `path` relative to the folder `fd`.
static const char *absolute(int fd, const char *path, char *whole) {
    if (path[0] == '/') return path;
    char folder[PATH_MAX];
    if (fd == AT_FDCWD) {
        if (syscall(SYS_getcwd, folder, sizeof folder) < 0) folder[0] = 0;
    } else {
        path_of(fd, folder);
    }
    if (snprintf(whole, PATH_MAX, "%s/%s", folder, path) >= PATH_MAX) return "";
    return whole;
}

static int at_path(const char *name, int fd, const char *path, int creates) {
    char whole[PATH_MAX];
    return decide(name, absolute(fd, path, whole), 0, creates);
}

static int at_fd(const char *name, int fd, size_t bytes) {
    char path[PATH_MAX];
    return decide(name, path_of(fd, path), bytes, 0);
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list list; \
        va_start(list, last); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

#define OPEN(open) \
    int open(const char *path, int flags, ...) { \
        MODE(flags) \
        return at_path("open", AT_FDCWD, path, flags & O_CREAT) == FAIL ? -1 : REAL(open)(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(openat) \
    int openat(int fd, const char *path, int flags, ...) { \
        MODE(flags) \
        return at_path("open", fd, path, flags & O_CREAT) == FAIL ? -1 : REAL(openat)(fd, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

ssize_t read(int fd, void *bytes, size_t count) {
    return at_fd("read", fd, 0) == FAIL ? -1 : REAL(read)(fd, bytes, count);
}

// A write in two halves, of which the second may not come.
#define WRITE(all, half) \
    switch (at_fd("write", fd, count)) { \
    case FAIL: return -1; \
    case HALF: { \
        ssize_t done = half; \
        if (!strcmp(getenv("CALLS_DO"), "tear")) die(); \
        return done; \
    } \
    default: return all; \
    }

ssize_t write(int fd, const void *bytes, size_t count) {
    WRITE(REAL(write)(fd, bytes, count), REAL(write)(fd, bytes, count / 2))
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    WRITE(REAL(pwrite64)(fd, bytes, count, at), REAL(pwrite64)(fd, bytes, count / 2, at))
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    WRITE(REAL(writev)(fd, parts, count), REAL(writev)(fd, parts, count / 2))
}

#define ON_FD(name, real, ...) return at_fd(name, fd, 0) == FAIL ? -1 : REAL(real)(__VA_ARGS__);
#define ON_PATH(name, real, ...) return at_path(name, AT_FDCWD, path, 0) == FAIL ? -1 : REAL(real)(__VA_ARGS__);

int fsync(int fd) { ON_FD("fsync", fsync, fd) }
int fdatasync(int fd) { ON_FD("fsync", fdatasync, fd) }
int flock(int fd, int operation) { ON_FD("flock", flock, fd, operation) }
int ftruncate64(int fd, off64_t length) { ON_FD("truncate", ftruncate64, fd, length) }

// Even a close that fails closes.
int close(int fd) {
    int decided = at_fd("close", fd, 0), error = errno;
    int closed = REAL(close)(fd);
    if (decided == FAIL) {
        errno = error;
        return -1;
    }
    return closed;
}

int rename(const char *path, const char *to) { ON_PATH("rename", rename, path, to) }
int mkdir(const char *path, mode_t mode) { ON_PATH("mkdir", mkdir, path, mode) }
int rmdir(const char *path) { ON_PATH("rmdir", rmdir, path) }
int unlink(const char *path) { ON_PATH("unlink", unlink, path) }
int stat64(const char *path, struct stat64 *status) { ON_PATH("stat", stat64, path, status) }
int fstat64(int fd, struct stat64 *status) { ON_FD("stat", fstat64, fd, status) }

int statx(int fd, const char *path, int flags, unsigned mask, struct statx *status) {
    // Rust asks whether there is statx by a null path; the header says that there is none.
    const char *volatile given = path;
    int decided = given && *given ? at_path("stat", fd, path, 0) : at_fd("stat", fd, 0);
    return decided == FAIL ? -1 : REAL(statx)(fd, path, flags, mask, status);
}

int unlinkat(int fd, const char *path, int flags) {
    return at_path("unlink", fd, path, 0) == FAIL ? -1 : REAL(unlinkat)(fd, path, flags);
}

DIR *opendir(const char *path) {
    return at_path("opendir", AT_FDCWD, path, 0) == FAIL ? NULL : REAL(opendir)(path);
}

struct dirent64 *readdir64(DIR *folder) {
    return at_fd("readdir", dirfd(folder), 0) == FAIL ? NULL : REAL(readdir64)(folder);
}
