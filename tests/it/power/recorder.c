/* Records, in order, all writes, truncations and synchronisations of files in one folder.
 *
 * Loaded before libc (LD_PRELOAD) into the recorded process. POWER_FOLDER names the folder, POWER_RECORD the
 * record file. Each call and its record are made under one lock, so that the records have the order of the calls.
 * Changes that bypass these functions are not recorded; the replay compares its result with the files.
 *
 * A record: operation (1 byte), descriptor (4), number (8), payload length (8), payload; in native byte order. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char watched[DESCRIPTORS];
static const char *folder;
static size_t folder_length;
static int record = -1;

static ssize_t (*real_write)(int, const void *, size_t);
static int (*real_open)(const char *, int, ...);

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

static void all(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t done = real_write(record, at, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) abort();
        at += done;
        length -= (size_t)done;
    }
}

static void log_call(char operation, int fd, uint64_t number, const void *bytes, uint64_t length) {
    int before = errno;
    char head[21];
    int32_t descriptor = fd;
    head[0] = operation;
    memcpy(head + 1, &descriptor, 4);
    memcpy(head + 5, &number, 8);
    memcpy(head + 13, &length, 8);
    all(head, sizeof head);
    if (length > 0) all(bytes, length);
    errno = before;
}

__attribute__((constructor)) static void begin(void) {
    *(void **)&real_write = dlsym(RTLD_NEXT, "write");
    *(void **)&real_open = dlsym(RTLD_NEXT, "open");
    const char *to = getenv("POWER_RECORD");
    folder = getenv("POWER_FOLDER");
    if (!to || !folder) return;
    folder_length = strlen(folder);
    record = real_open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (record < 0) abort();
    log_call('P', -1, 0, NULL, 0);
}

/* Lets calls in progress finish and blocks new ones. */
__attribute__((destructor)) static void end(void) {
    pthread_mutex_lock(&lock);
}

static int is_in_folder(const char *path) {
    return record >= 0 && path && strncmp(path, folder, folder_length) == 0
        && (path[folder_length] == '/' || path[folder_length] == 0);
}

static int is_watched(int fd) {
    return fd >= 0 && fd < DESCRIPTORS && watched[fd];
}

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!is_in_folder(path)) {
        int fd = real(path, flags, mode);
        if (fd >= 0 && fd < DESCRIPTORS) watched[fd] = 0;
        return fd;
    }
    pthread_mutex_lock(&lock);
    int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;
    int fd = real(path, flags, mode);
    if (fd >= DESCRIPTORS) abort();
    if (fd >= 0) {
        watched[fd] = 1;
        log_call('O', fd, (uint64_t)is_new, path, strlen(path));
        if (flags & O_TRUNC) log_call('T', fd, 0, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, #name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        return opened(real, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    REAL(int, "close", int);
    if (!is_watched(fd)) return real(fd);
    pthread_mutex_lock(&lock);
    watched[fd] = 0;
    log_call('C', fd, 0, NULL, 0);
    int done = real(fd);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (!is_watched(fd)) return real_write(fd, bytes, length);
    pthread_mutex_lock(&lock);
    ssize_t done = real_write(fd, bytes, length);
    if (done > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        log_call('W', fd, (uint64_t)(end - done), bytes, (uint64_t)done);
    }
    pthread_mutex_unlock(&lock);
    return done;
}

#define PWRITE(name) \
    ssize_t name(int fd, const void *bytes, size_t length, off_t offset) { \
        REAL(ssize_t, #name, int, const void *, size_t, off_t); \
        if (!is_watched(fd)) return real(fd, bytes, length, offset); \
        pthread_mutex_lock(&lock); \
        ssize_t done = real(fd, bytes, length, offset); \
        if (done > 0) log_call('W', fd, (uint64_t)offset, bytes, (uint64_t)done); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(name) \
    int name(int fd, off_t length) { \
        REAL(int, #name, int, off_t); \
        if (!is_watched(fd)) return real(fd, length); \
        pthread_mutex_lock(&lock); \
        int done = real(fd, length); \
        if (done == 0) log_call('T', fd, (uint64_t)length, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

/* Only writes before the call are durable when it returns; the lock excludes writes in between. */
#define SYNCHRONISE(name) \
    int name(int fd) { \
        REAL(int, #name, int); \
        if (!is_watched(fd)) return real(fd); \
        pthread_mutex_lock(&lock); \
        int done = real(fd); \
        if (done == 0) log_call('S', fd, 0, NULL, 0); \
        pthread_mutex_unlock(&lock); \
        return done; \
    }
SYNCHRONISE(fsync)
SYNCHRONISE(fdatasync)

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (!is_in_folder(path)) return real(path);
    pthread_mutex_lock(&lock);
    int done = real(path);
    if (done == 0) log_call('U', -1, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    return done;
}

/* SQLite neither renames nor uses writev; abort if that changes, rather than record wrongly. */
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    if (is_in_folder(from) || is_in_folder(to)) abort();
    return real(from, to);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    if (is_watched(fd)) abort();
    return real(fd, parts, count);
}
