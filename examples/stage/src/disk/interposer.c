// Stands between a program and the C library, for what it does to files beneath one directory: writes down every change in the
// order in which it was made, so that a power cut at any point of it can be played afterwards; delays it, or has it fail; and
// shifts the wall clock. `disk.rs` beside this file compiles it, loads it by LD_PRELOAD, and reads what it wrote.
//
// Memory that is mapped is not seen. SQLite's `-shm` is all that the router maps for writing, and a start makes it anew.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// What whoever runs the program can set while it runs, and is told. The same on the other side, in `faults.rs`.
struct control {
    _Atomic uint32_t sync_delay;  // microseconds that a sync takes longer
    _Atomic uint32_t write_errno; // what a write fails with; 0 where it does not
    _Atomic uint32_t sync_errno;  // the same of a sync
    _Atomic uint32_t open_errno;  // the same of opening a file to write to
    _Atomic int64_t clock_shift;  // milliseconds by which the wall clock is ahead
    _Atomic uint32_t delayed, writes_failed, syncs_failed, opens_failed, shifted;
};

// The kinds of records. Each is a head and `length` bytes: a path, two of them with a zero between, or what was written.
enum kind { CREATED = 1, OPENED, CLOSED, WRITTEN, CUT, SYNCED, REMOVED, RENAMED, DIRECTORY, FAILED };
struct head {
    uint32_t kind, process, file, length;
    uint64_t offset;
};

enum { FILES = 65536 };
static _Atomic unsigned char watched[FILES]; // 1: beneath the root; 2: and appended to
static char root[PATH_MAX];
static size_t root_length;
static int trace = -1;
static struct control none, *control = &none;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

#define REAL(result, name, ...) \
    static result (*real_##name)(__VA_ARGS__); \
    if (!real_##name) *(void **)&real_##name = dlsym(RTLD_NEXT, #name)

static ssize_t put(int file, const void *bytes, size_t length) {
    REAL(ssize_t, write, int, const void *, size_t);
    return real_write(file, bytes, length);
}

__attribute__((constructor)) static void begin(void) {
    const char *at = getenv("JACKFIELD_DISK_ROOT");
    const char *to = getenv("JACKFIELD_DISK_TRACE");
    const char *by = getenv("JACKFIELD_DISK_CONTROL");
    unsetenv("LD_PRELOAD"); // the programs that this one starts are not watched
    if (!at || !(root_length = strlen(at)) || root_length >= sizeof root) return;
    strcpy(root, at);
    REAL(int, open64, const char *, int, ...);
    if (to) trace = real_open64(to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (by) {
        int file = real_open64(by, O_RDWR | O_CLOEXEC);
        void *shared = mmap(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (shared != MAP_FAILED) control = shared;
    }
}

// A program that is recorded does one thing after the other: so the record is in the order of what happened.
static void enter(void) { if (trace >= 0) pthread_mutex_lock(&order); }
static void leave(void) { if (trace >= 0) pthread_mutex_unlock(&order); }

static void record(enum kind kind, int file, uint64_t offset, const void *bytes, size_t length) {
    if (trace < 0) return;
    int before = errno;
    struct head head = {kind, (uint32_t)getpid(), (uint32_t)file, (uint32_t)length, offset};
    char *whole = malloc(sizeof head + length);
    if (!whole) abort();
    memcpy(whole, &head, sizeof head);
    if (length) memcpy(whole + sizeof head, bytes, length);
    // A record that is cut short would make all after it unreadable: better no run at all.
    if (put(trace, whole, sizeof head + length) != (ssize_t)(sizeof head + length)) abort();
    free(whole);
    errno = before;
}

static int fails(_Atomic uint32_t *with, _Atomic uint32_t *count) {
    uint32_t code = atomic_load(with);
    if (!code) return 0;
    atomic_fetch_add(count, 1);
    errno = (int)code;
    return 1;
}

static int is_watched(int file) { return file >= 0 && file < FILES ? watched[file] : 0; }

// The path beneath the root, or null where it is not there.
static const char *beneath(int directory, const char *path, char *whole) {
    if (!root_length || !path) return 0;
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else {
        char start[PATH_MAX] = "", link[64];
        if (directory == AT_FDCWD) {
            if (!getcwd(start, sizeof start)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t length = readlink(link, start, sizeof start - 1);
            if (length < 0) return 0;
            start[length] = 0;
        }
        if ((size_t)snprintf(whole, PATH_MAX, "%s/%s", start, path) >= PATH_MAX) return 0;
    }
    for (size_t end = strlen(whole); end > 1 && whole[end - 1] == '/'; end--) whole[end - 1] = 0;
    if (strncmp(whole, root, root_length) || (whole[root_length] && whole[root_length] != '/')) return 0;
    return whole[root_length] ? whole + root_length + 1 : whole + root_length;
}

static int open_at(int directory, const char *path, int flags, mode_t mode) {
    REAL(int, openat64, int, const char *, int, ...);
    char whole[PATH_MAX];
    const char *name = beneath(directory, path, whole);
    if (!name) {
        int file = real_openat64(directory, path, flags, mode);
        if (file >= 0 && file < FILES) watched[file] = 0;
        return file;
    }
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    if (writes && fails(&control->open_errno, &control->opens_failed)) return -1;
    enter();
    struct stat status;
    int existed = !fstatat(directory, path, &status, 0);
    int file = real_openat64(directory, path, flags, mode);
    if (file >= 0 && file < FILES) {
        watched[file] = flags & O_APPEND ? 2 : 1;
        record(existed ? OPENED : CREATED, file, 0, name, strlen(name));
        if (existed && writes && flags & O_TRUNC) record(CUT, file, 0, 0, 0);
    }
    leave();
    return file;
}

static mode_t mode_of(int flags, va_list more) {
    return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;
}

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return open_at(AT_FDCWD, path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int directory, const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return open_at(directory, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

int close(int file) {
    REAL(int, close, int);
    if (!is_watched(file)) return real_close(file);
    enter();
    watched[file] = 0;
    record(CLOSED, file, 0, 0, 0);
    int result = real_close(file);
    leave();
    return result;
}

ssize_t write(int file, const void *bytes, size_t length) {
    int watch = is_watched(file);
    if (!watch) return put(file, bytes, length);
    if (fails(&control->write_errno, &control->writes_failed)) return -1;
    enter();
    struct stat status = {0};
    if (watch == 2) fstat(file, &status);
    off_t offset = watch == 2 ? status.st_size : lseek(file, 0, SEEK_CUR);
    ssize_t written = put(file, bytes, length);
    if (written > 0) record(WRITTEN, file, (uint64_t)offset, bytes, (size_t)written);
    leave();
    return written;
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    if (!is_watched(file)) return real_pwrite64(file, bytes, length, offset);
    if (fails(&control->write_errno, &control->writes_failed)) return -1;
    enter();
    ssize_t written = real_pwrite64(file, bytes, length, offset);
    if (written > 0) record(WRITTEN, file, (uint64_t)offset, bytes, (size_t)written);
    leave();
    return written;
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset) { return pwrite64(file, bytes, length, offset); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (!is_watched(file)) return real_writev(file, parts, count);
    // As few as it likes: whoever writes more goes on by itself.
    for (int part = 0; part < count; part++)
        if (parts[part].iov_len) return write(file, parts[part].iov_base, parts[part].iov_len);
    return 0;
}

int ftruncate64(int file, off64_t length) {
    REAL(int, ftruncate64, int, off64_t);
    if (!is_watched(file)) return real_ftruncate64(file, length);
    if (fails(&control->write_errno, &control->writes_failed)) return -1;
    enter();
    int result = real_ftruncate64(file, length);
    if (!result) record(CUT, file, (uint64_t)length, 0, 0);
    leave();
    return result;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

// One that was opened past the C library, by a system call of the program's own, is known by its path.
static int find(int file) {
    char whole[PATH_MAX];
    const char *name = file >= 0 && file < FILES ? beneath(file, "", whole) : 0;
    if (!name) return 0;
    enter();
    watched[file] = 1;
    record(OPENED, file, 0, name, strlen(name));
    leave();
    return 1;
}

static int sync_file(int file, int (*real)(int)) {
    if (!is_watched(file) && !find(file)) return real(file);
    if (atomic_load(&control->sync_delay)) atomic_fetch_add(&control->delayed, 1);
    // In pieces: when the delay is lifted, it ends for those that are under way.
    for (uint64_t slept = 0, delay; slept < (delay = atomic_load(&control->sync_delay));) {
        uint64_t piece = delay - slept < 5000 ? delay - slept : 5000;
        usleep((useconds_t)piece);
        slept += piece;
    }
    if (fails(&control->sync_errno, &control->syncs_failed)) {
        enter();
        record(FAILED, file, 0, 0, 0);
        leave();
        return -1;
    }
    enter();
    // The record is the whole disk: nothing has to reach the real one.
    int result = trace >= 0 ? 0 : real(file);
    record(SYNCED, file, 0, 0, 0);
    leave();
    return result;
}

int fsync(int file) {
    REAL(int, fsync, int);
    return sync_file(file, real_fsync);
}

int fdatasync(int file) {
    REAL(int, fdatasync, int);
    return sync_file(file, real_fdatasync);
}

static int remove_at(int directory, const char *path, int flags) {
    REAL(int, unlinkat, int, const char *, int);
    char whole[PATH_MAX];
    const char *name = beneath(directory, path, whole);
    if (!name) return real_unlinkat(directory, path, flags);
    if (fails(&control->open_errno, &control->opens_failed)) return -1;
    enter();
    int result = real_unlinkat(directory, path, flags);
    if (!result) record(REMOVED, 0, 0, name, strlen(name));
    leave();
    return result;
}

int unlinkat(int directory, const char *path, int flags) { return remove_at(directory, path, flags); }
int unlink(const char *path) { return remove_at(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return remove_at(AT_FDCWD, path, AT_REMOVEDIR); }

int rename(const char *from, const char *to) {
    REAL(int, rename, const char *, const char *);
    char whole[PATH_MAX], other[PATH_MAX], both[2 * PATH_MAX];
    const char *name = beneath(AT_FDCWD, from, whole), *next = beneath(AT_FDCWD, to, other);
    if (!name || !next) return real_rename(from, to);
    if (fails(&control->open_errno, &control->opens_failed)) return -1;
    enter();
    int result = real_rename(from, to);
    size_t length = (size_t)snprintf(both, sizeof both, "%s%c%s", name, 0, next);
    if (!result) record(RENAMED, 0, 0, both, length);
    leave();
    return result;
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    char whole[PATH_MAX];
    const char *name = beneath(AT_FDCWD, path, whole);
    if (!name) return real_mkdir(path, mode);
    if (fails(&control->open_errno, &control->opens_failed)) return -1;
    enter();
    int result = real_mkdir(path, mode);
    if (!result) record(DIRECTORY, 0, 0, name, strlen(name));
    leave();
    return result;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int result = real_clock_gettime(clock, now);
    int64_t shift = atomic_load(&control->clock_shift);
    if (!shift || result || clock != CLOCK_REALTIME) return result;
    atomic_fetch_add(&control->shifted, 1);
    int64_t nanoseconds = now->tv_nsec + shift % 1000 * 1000000;
    now->tv_sec += shift / 1000 + nanoseconds / 1000000000 - (nanoseconds < 0);
    now->tv_nsec = nanoseconds % 1000000000 + (nanoseconds < 0) * 1000000000L;
    if (now->tv_nsec == 1000000000L) now->tv_nsec = 0, now->tv_sec++;
    return 0;
}
