/* Count, record and spoil the system calls that change what lies below one folder.
 *
 * Loaded with LD_PRELOAD. Everything is told through one file, mapped by every process that has
 * FAULTS_CONTROL in its environment, so that calls are counted in one order across forks and execs.
 * Python's os, SQLite and pyarrow alike go through these symbols; what bypasses them (stdio) would be
 * missing from the recording, and the harness compares each recording with the disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The same layout is spelled in harness.py. */
enum action { NONE, KILL_BEFORE, KILL_AFTER, TORN, FAIL, FAIL_FOREVER, SHORT };
struct control {
    uint32_t armed, action, error, hit;
    uint64_t point, counter;
    char folder[512], log[512], hit_call[32], hit_path[512];
};
enum op { OPEN = 1, WRITE, FSYNC, RENAME, UNLINK, MKDIR, RMDIR, SYMLINK, LINK, TRUNCATE, CHMOD };
struct entry {
    uint64_t k, inode;
    int64_t number;
    uint32_t op, mode, path_length, other_length, data_length, unused;
};

static struct control *control;
static int log_descriptor = -1;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("FAULTS_CONTROL");
    if (path == NULL) return;
    int descriptor = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    if (descriptor < 0) return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    syscall(SYS_close, descriptor);
    if (mapped != MAP_FAILED) control = mapped;
}

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) abort();
    return found;
}
#define REAL(type, name, ...)                                        \
    static type (*real_##name)(__VA_ARGS__);                         \
    if (real_##name == NULL) real_##name = real(#name)

/* ---- which calls count */

static int is_armed(void) { return control != NULL && control->armed; }

static int is_inside(const char *path) {
    size_t length = strlen(control->folder);
    return strncmp(path, control->folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int path_of(int descriptor, char *out) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
    out[n < 0 ? 0 : n] = 0;
    return n > 0;
}

static int resolve(int folder, const char *path, char *out) {
    char base[PATH_MAX];
    if (path == NULL) return 0;
    if (path[0] == '/') return snprintf(out, PATH_MAX, "%s", path) < PATH_MAX;
    if (folder == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) return 0;
    } else if (!path_of(folder, base)) {
        return 0;
    }
    return snprintf(out, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static int counts(int folder, const char *path, char *out) {
    int error = errno;
    int found = is_armed() && resolve(folder, path, out) && is_inside(out);
    errno = error;
    return found;
}

static int descriptor_counts(int descriptor, char *out) {
    int error = errno;
    int found = is_armed() && path_of(descriptor, out) && is_inside(out);
    errno = error;
    return found;
}

/* ---- what happens to them */

static void die(void) {
    control->hit = 1;
    syscall(SYS_kill, 0, SIGKILL); /* the run is a process group of its own */
    for (;;) pause();
}

/* Take the next number; return 1 where the call fails. A call of `size` bytes may be cut. */
static int begin(const char *name, const char *path, uint64_t *k, size_t *size) {
    pthread_mutex_lock(&mutex);
    *k = __atomic_add_fetch(&control->counter, 1, __ATOMIC_SEQ_CST);
    if (control->action == NONE || *k < control->point) return 0;
    if (*k == control->point) {
        snprintf(control->hit_call, sizeof control->hit_call, "%s", name);
        snprintf(control->hit_path, sizeof control->hit_path, "%s", path);
    } else if (control->action != FAIL_FOREVER) {
        return 0;
    }
    control->hit = 1;
    switch (control->action) {
    case KILL_BEFORE:
        die();
        break;
    case FAIL:
    case FAIL_FOREVER:
        errno = control->error;
        pthread_mutex_unlock(&mutex);
        return 1;
    case TORN:
        if (size != NULL) *size /= 2;
        break;
    case SHORT:
        if (size != NULL && *size > 1) *size /= 2;
        break;
    }
    return 0;
}

static void append(const struct entry *entry, const char *path, const char *other, const void *data) {
    if (log_descriptor < 0) {
        int opened = syscall(SYS_openat, AT_FDCWD, control->log, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (opened < 0) return;
        log_descriptor = fcntl(opened, F_DUPFD_CLOEXEC, 700);
        syscall(SYS_close, opened);
    }
    struct iovec parts[] = {
        {(void *)entry, sizeof *entry}, {(void *)path, entry->path_length},
        {(void *)other, entry->other_length}, {(void *)data, entry->data_length}};
    syscall(SYS_writev, log_descriptor, parts, 4);
}

/* Record a call that was made, unless it failed; let the process die after it. */
static void end(uint64_t k, int op, int failed, uint64_t inode, uint32_t mode, int64_t number,
                const char *path, const char *other, const void *data, size_t length) {
    int error = errno;
    if (!failed && control->log[0]) {
        struct entry entry = {k, inode, number, op, mode, path ? strlen(path) : 0,
                              other ? strlen(other) : 0, length, 0};
        append(&entry, path, other, data);
    }
    if (k == control->point && (control->action == KILL_AFTER || control->action == TORN)) die();
    pthread_mutex_unlock(&mutex);
    errno = error;
}

static int look(int folder, const char *path, struct stat *about) {
    int error = errno;
    int found = syscall(SYS_newfstatat, folder, path, about, AT_SYMLINK_NOFOLLOW) == 0;
    errno = error;
    return found;
}

/* ---- open */

static int change_by_open(int folder, const char *path, int flags, mode_t mode) {
    char full[PATH_MAX];
    uint64_t k;
    struct stat about = {0};
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !counts(folder, path, full))
        return syscall(SYS_openat, folder, path, flags, mode);
    if (begin("open", full, &k, NULL)) return -1;
    int existed = look(folder, path, &about);
    int opened = syscall(SYS_openat, folder, path, flags, mode);
    if (opened >= 0) look(folder, path, &about);
    int changed = existed ? (flags & O_TRUNC ? 2 : 0) : 1; /* 1: made, 2: emptied */
    end(k, OPEN, opened < 0, about.st_ino, about.st_mode, changed, full, NULL, NULL, 0);
    return opened;
}

#define OPEN_MODE                            \
    mode_t mode = 0;                         \
    if (flags & (O_CREAT | O_TMPFILE)) {     \
        va_list rest;                        \
        va_start(rest, flags);               \
        mode = va_arg(rest, mode_t);         \
        va_end(rest);                        \
    }
int open(const char *path, int flags, ...) { OPEN_MODE return change_by_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { OPEN_MODE return change_by_open(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { OPEN_MODE return change_by_open(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { OPEN_MODE return change_by_open(folder, path, flags, mode); }
int __open_2(const char *path, int flags) { return change_by_open(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return change_by_open(AT_FDCWD, path, flags, 0); }
int __openat_2(int folder, const char *path, int flags) { return change_by_open(folder, path, flags, 0); }
int __openat64_2(int folder, const char *path, int flags) { return change_by_open(folder, path, flags, 0); }
int creat(const char *path, mode_t mode) { return change_by_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* ---- write */

/* `offset` is -1 where the descriptor's own place is written to. */
static ssize_t change_by_write(const char *name, int descriptor, const void *data, size_t size, off_t offset) {
    char full[PATH_MAX];
    uint64_t k;
    struct stat about = {0};
    if (!descriptor_counts(descriptor, full)) {
        if (offset >= 0) return syscall(SYS_pwrite64, descriptor, data, size, offset);
        return syscall(SYS_write, descriptor, data, size);
    }
    if (begin(name, full, &k, &size)) return -1;
    ssize_t written;
    if (offset >= 0) {
        written = syscall(SYS_pwrite64, descriptor, data, size, offset);
    } else {
        written = syscall(SYS_write, descriptor, data, size);
        if (written >= 0) offset = syscall(SYS_lseek, descriptor, 0, SEEK_CUR) - written;
    }
    int error = errno;
    syscall(SYS_fstat, descriptor, &about);
    errno = error;
    end(k, WRITE, written < 0, about.st_ino, about.st_mode, offset, full, NULL, data, written < 0 ? 0 : written);
    return written;
}

ssize_t write(int descriptor, const void *data, size_t size) { return change_by_write("write", descriptor, data, size, -1); }
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) { return change_by_write("pwrite", descriptor, data, size, offset); }
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t offset) { return change_by_write("pwrite", descriptor, data, size, offset); }

static ssize_t gather(int descriptor, const struct iovec *parts, int count, off_t offset) {
    size_t size = 0, place = 0;
    for (int i = 0; i < count; i++) size += parts[i].iov_len;
    char *joined = malloc(size ? size : 1);
    if (joined == NULL) {
        errno = ENOMEM;
        return -1;
    }
    for (int i = 0; i < count; place += parts[i++].iov_len)
        memcpy(joined + place, parts[i].iov_base, parts[i].iov_len);
    ssize_t written = change_by_write("writev", descriptor, joined, size, offset);
    int error = errno;
    free(joined);
    errno = error;
    return written;
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    char full[PATH_MAX];
    if (!descriptor_counts(descriptor, full)) return syscall(SYS_writev, descriptor, parts, count);
    return gather(descriptor, parts, count, -1);
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    char full[PATH_MAX];
    if (descriptor_counts(descriptor, full)) return gather(descriptor, parts, count, offset);
    REAL(ssize_t, pwritev, int, const struct iovec *, int, off_t);
    return real_pwritev(descriptor, parts, count, offset);
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off64_t offset) { return pwritev(descriptor, parts, count, offset); }

/* Copies inside the kernel are refused, so that the caller falls back to read and write. */
ssize_t sendfile(int to, int from, off_t *offset, size_t count) {
    char full[PATH_MAX];
    if (descriptor_counts(to, full)) {
        errno = EINVAL;
        return -1;
    }
    return syscall(SYS_sendfile, to, from, offset, count);
}
ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) { return sendfile(to, from, offset, count); }
ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t size, unsigned flags) {
    char full[PATH_MAX];
    if (descriptor_counts(to, full)) {
        errno = EXDEV;
        return -1;
    }
    return syscall(SYS_copy_file_range, from, in, to, out, size, flags);
}

/* ---- size, mode, durability: calls on a descriptor */

static int change_by_descriptor(const char *name, int op, long number, int descriptor, int64_t value) {
    char full[PATH_MAX];
    uint64_t k;
    struct stat about = {0};
    int has_value = op == TRUNCATE || op == CHMOD;
    if (!descriptor_counts(descriptor, full))
        return has_value ? syscall(number, descriptor, value) : syscall(number, descriptor);
    if (begin(name, full, &k, NULL)) return -1;
    int failed = has_value ? syscall(number, descriptor, value) : syscall(number, descriptor);
    int error = errno;
    syscall(SYS_fstat, descriptor, &about);
    errno = error;
    end(k, op, failed, about.st_ino, about.st_mode, value, full, NULL, NULL, 0);
    return failed;
}

int fsync(int descriptor) { return change_by_descriptor("fsync", FSYNC, SYS_fsync, descriptor, 0); }
int fdatasync(int descriptor) { return change_by_descriptor("fdatasync", FSYNC, SYS_fdatasync, descriptor, 0); }
int ftruncate(int descriptor, off_t size) { return change_by_descriptor("ftruncate", TRUNCATE, SYS_ftruncate, descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { return change_by_descriptor("ftruncate", TRUNCATE, SYS_ftruncate, descriptor, size); }
int fchmod(int descriptor, mode_t mode) { return change_by_descriptor("fchmod", CHMOD, SYS_fchmod, descriptor, mode); }
int posix_fallocate(int descriptor, off_t from, off_t size) {
    char full[PATH_MAX];
    struct stat about = {0};
    if (!descriptor_counts(descriptor, full)) return syscall(SYS_fallocate, descriptor, 0, from, size) ? errno : 0;
    syscall(SYS_fstat, descriptor, &about);
    if (from + size <= about.st_size) return 0;
    return ftruncate(descriptor, from + size) ? errno : 0;
}
int posix_fallocate64(int descriptor, off64_t from, off64_t size) { return posix_fallocate(descriptor, from, size); }

/* ---- names */

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char full[PATH_MAX], other[PATH_MAX];
    uint64_t k;
    int inside = counts(from_folder, from, full);
    if (!counts(to_folder, to, other) && !inside)
        return syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (begin("rename", full, &k, NULL)) return -1;
    int failed = syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    end(k, RENAME, failed, 0, 0, 0, full, other, NULL, 0);
    return failed;
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) { return renameat2(from_folder, from, to_folder, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *path, int flags) {
    char full[PATH_MAX];
    uint64_t k;
    if (!counts(folder, path, full)) return syscall(SYS_unlinkat, folder, path, flags);
    if (begin(flags & AT_REMOVEDIR ? "rmdir" : "unlink", full, &k, NULL)) return -1;
    int failed = syscall(SYS_unlinkat, folder, path, flags);
    end(k, flags & AT_REMOVEDIR ? RMDIR : UNLINK, failed, 0, 0, 0, full, NULL, NULL, 0);
    return failed;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
    char full[PATH_MAX];
    uint64_t k;
    struct stat about = {0};
    if (!counts(folder, path, full)) return syscall(SYS_mkdirat, folder, path, mode);
    if (begin("mkdir", full, &k, NULL)) return -1;
    int failed = syscall(SYS_mkdirat, folder, path, mode);
    if (!failed) look(folder, path, &about);
    end(k, MKDIR, failed, about.st_ino, about.st_mode, 0, full, NULL, NULL, 0);
    return failed;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int symlinkat(const char *target, int folder, const char *path) {
    char full[PATH_MAX];
    uint64_t k;
    struct stat about = {0};
    if (!counts(folder, path, full)) return syscall(SYS_symlinkat, target, folder, path);
    if (begin("symlink", full, &k, NULL)) return -1;
    int failed = syscall(SYS_symlinkat, target, folder, path);
    if (!failed) look(folder, path, &about);
    end(k, SYMLINK, failed, about.st_ino, about.st_mode, 0, full, target, NULL, 0);
    return failed;
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char full[PATH_MAX], other[PATH_MAX];
    uint64_t k;
    int inside = counts(from_folder, from, full);
    if (!counts(to_folder, to, other) && !inside)
        return syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    if (begin("link", full, &k, NULL)) return -1;
    int failed = syscall(SYS_linkat, from_folder, from, to_folder, to, flags);
    end(k, LINK, failed, 0, 0, 0, full, other, NULL, 0);
    return failed;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int change_by_name(const char *name, int op, long number, const char *path, int64_t value) {
    char full[PATH_MAX];
    uint64_t k;
    struct stat about = {0};
    if (!counts(AT_FDCWD, path, full)) return syscall(number, path, value);
    if (begin(name, full, &k, NULL)) return -1;
    int failed = syscall(number, path, value);
    if (!failed) look(AT_FDCWD, path, &about);
    end(k, op, failed, about.st_ino, about.st_mode, value, full, NULL, NULL, 0);
    return failed;
}
int truncate(const char *path, off_t size) { return change_by_name("truncate", TRUNCATE, SYS_truncate, path, size); }
int truncate64(const char *path, off64_t size) { return truncate(path, size); }
int chmod(const char *path, mode_t mode) { return change_by_name("chmod", CHMOD, SYS_chmod, path, mode); }
int fchmodat(int folder, const char *path, mode_t mode, int flags) {
    char full[PATH_MAX];
    if (counts(folder, path, full)) return chmod(full, mode);
    REAL(int, fchmodat, int, const char *, mode_t, int);
    return real_fchmodat(folder, path, mode, flags);
}
