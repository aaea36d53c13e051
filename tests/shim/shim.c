/* What stands between the program and its disk in the tests of lost power and of faults.
 *
 * Preloaded into the real program, it has the kernel hand over every system call that touches a
 * file (seccomp's SECCOMP_RET_TRAP), so that calls that go round the C library (rustix makes them)
 * are caught as well. No privilege is needed. Of what lies below the watched folder it
 *
 *  - writes each change to a trace, in the order in which the changes took place, with its bytes;
 *  - carries out no sync: the trace says when one began and ended, and the test makes of it what a
 *    disk may hold after the power failed (disk.rs). A sync takes as long as it is told;
 *  - fails the calls that the control file names. It is read again when it is another file;
 *  - gives another file for the kernel's boot_id: after a loss of power that is a new one.
 *
 * Environment: SHIM_ROOT (absolute, canonical), SHIM_TRACE, SHIM_CONTROL, SHIM_BOOT, SHIM_SYNC_US.
 * A line of the control file: MASK PATTERN ERRNO SKIP COUNT ROOM. A call of one of the kinds in
 * MASK, on a path that contains PATTERN (`*`: any; `!x`: not x), fails with ERRNO, COUNT times, but
 * not the first SKIP of them; with ROOM >= 0 writes go on, cut short, until ROOM bytes were written.
 * ERRNO 0 is for syncs: it is told that all went well, and nothing is durable.
 *
 * Kinds of records and calls: trace.rs and mod.rs have the same numbers. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <errno.h>

#ifndef __x86_64__
#error "the shim knows the registers of x86-64 only"
#endif

enum { CREATE = 1, MKDIR, LINK, RENAME, REMOVE, WRITE, LENGTH, BEGIN, END, FAILED, FAULT, UNKNOWN };
enum {
    ON_OPEN_READ = 1, ON_OPEN_WRITE = 2, ON_READ = 4, ON_WRITE = 8, ON_SYNC = 16, ON_RENAME = 32,
    ON_LINK = 64, ON_REMOVE = 128, ON_MKDIR = 256, ON_LENGTH = 512,
};
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x80
#endif
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
enum { RULES = 8, UNUSABLE = 99, NO_FAULT = -1 };

/* The one place whose system calls the kernel lets through. */
long shim_call(long number, long a, long b, long c, long d, long e, long f);
extern char shim_call_end[];
__asm__(".text\n.globl shim_call\n.globl shim_call_end\n.type shim_call,@function\nshim_call:\n"
        "mov %rdi,%rax\nmov %rsi,%rdi\nmov %rdx,%rsi\nmov %rcx,%rdx\nmov %r8,%r10\nmov %r9,%r8\n"
        "mov 8(%rsp),%r9\nsyscall\nret\nshim_call_end:\n");
#define CALL4(n, a, b, c, d) shim_call(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define CALL(n, a, b, c) CALL4(n, a, b, c, 0)

struct record { uint32_t length, kind; uint64_t a, b; };
struct rule { unsigned mask; char pattern[256]; long error, skip, count, room; };

static char root[PATH_MAX];
static size_t root_length;
static const char *control, *boot;
static long trace = -1, sync_us;
static uint64_t tickets;
static struct rule rules[RULES];
static int rule_count;
static ino_t control_inode;
static volatile char locked;

static void lock(void) {
    while (__atomic_exchange_n(&locked, 1, __ATOMIC_ACQUIRE)) CALL(SYS_sched_yield, 0, 0, 0);
}
static void unlock(void) { __atomic_store_n(&locked, 0, __ATOMIC_RELEASE); }

static void die(const char *why) {
    CALL(SYS_write, 2, "shim: ", 6);
    CALL(SYS_write, 2, why, strlen(why));
    CALL(SYS_write, 2, "\n", 1);
    CALL(SYS_exit_group, UNUSABLE, 0, 0);
}

static void put(const void *bytes, size_t length) {
    while (length > 0) {
        long written = CALL(SYS_write, trace, bytes, length);
        if (written <= 0) die("cannot write the trace");
        bytes = (const char *)bytes + written;
        length -= written;
    }
}
static void note(int kind, uint64_t a, uint64_t b, const void *bytes, size_t length) {
    struct record record = {length, kind, a, b};
    put(&record, sizeof record);
    put(bytes, length);
}
static void note_path(int kind, uint64_t a, uint64_t b, const char *path) {
    note(kind, a, b, path, strlen(path));
}
static void note_paths(int kind, uint64_t a, const char *from, const char *to) {
    char both[2 * PATH_MAX];
    size_t first = strlen(from) + 1, second = strlen(to);
    memcpy(both, from, first);
    memcpy(both + first, to, second);
    note(kind, a, 0, both, first + second);
}

/* The path below the root, or NULL. */
static const char *below(const char *path) {
    if (strncmp(path, root, root_length) != 0) return NULL;
    if (path[root_length] == 0) return path + root_length;
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}
static const char *of_descriptor(int fd, char *buffer) {
    char name[32] = "/proc/self/fd/", digits[12];
    int count = 0, at = 14;
    if (fd < 0) return NULL;
    do digits[count++] = '0' + fd % 10; while ((fd /= 10) > 0);
    while (count > 0) name[at++] = digits[--count];
    name[at] = 0;
    long length = CALL(SYS_readlink, name, buffer, PATH_MAX - 1);
    if (length < 0) return NULL;
    buffer[length] = 0;
    return below(buffer);
}
static const char *of_path(int folder, const char *path, char *buffer) {
    size_t length = 0;
    if (path == NULL || strlen(path) >= PATH_MAX) return NULL;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (CALL(SYS_getcwd, buffer, PATH_MAX, 0) < 0) return NULL;
        } else if (of_descriptor(folder, buffer) == NULL) {
            return NULL;
        }
        length = strlen(buffer);
        buffer[length++] = '/';
        if (length + strlen(path) >= PATH_MAX) return NULL;
    }
    strcpy(buffer + length, path);
    for (length = strlen(buffer); length > 1 && buffer[length - 1] == '/';) buffer[--length] = 0;
    return below(buffer);
}
/* The watched file or folder behind a descriptor: its inode, or 0. */
static uint64_t inode(int fd, char *buffer, const char **path) {
    struct stat found;
    if (CALL(SYS_fstat, fd, &found, 0) < 0) return 0;
    if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode)) return 0;
    *path = of_descriptor(fd, buffer);
    return *path == NULL ? 0 : found.st_ino;
}
static uint64_t inode_at(int folder, const char *path) {
    struct stat found;
    return CALL4(SYS_newfstatat, folder, path, &found, AT_SYMLINK_NOFOLLOW) < 0 ? 0 : found.st_ino;
}

static void parse_rules(char *text) {
    rule_count = 0;
    while (*text != 0 && rule_count < RULES) {
        struct rule *rule = &rules[rule_count++];
        rule->mask = strtoul(text, &text, 10);
        text++;
        size_t length = strcspn(text, " ");
        memcpy(rule->pattern, text, length);
        rule->pattern[length] = 0;
        text += length;
        rule->error = strtol(text, &text, 10);
        rule->skip = strtol(text, &text, 10);
        rule->count = strtol(text, &text, 10);
        rule->room = strtol(text, &text, 10);
        text += strspn(text, "\n");
    }
}
static void read_rules(void) {
    char text[4096];
    struct stat found;
    if (control == NULL || CALL(SYS_stat, control, &found, 0) < 0) return;
    if (found.st_ino == control_inode) return;
    long fd = CALL(SYS_open, control, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return;
    long length = CALL(SYS_read, fd, text, sizeof text - 1);
    CALL(SYS_close, fd, 0, 0);
    control_inode = found.st_ino;
    text[length < 0 ? 0 : length] = 0;
    parse_rules(text);
}
static int matches(const char *pattern, const char *path) {
    if (pattern[0] == '!') return strstr(path, pattern + 1) == NULL;
    return strcmp(pattern, "*") == 0 || strstr(path, pattern) != NULL;
}
/* The error with which the call is to fail, or NO_FAULT; `room` is cut to what may be written. */
static long fault(unsigned kind, const char *path, size_t *room) {
    read_rules();
    for (int i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (!(rule->mask & kind)) continue;
        if (!matches(rule->pattern, path)) continue;
        if (rule->skip > 0) { rule->skip--; continue; }
        if (rule->count == 0) continue;
        if (room != NULL && rule->room > 0) {
            if (*room > (size_t)rule->room) *room = rule->room;
            rule->room -= *room;
            continue;
        }
        rule->count--;
        note_path(FAULT, kind, rule->error, path);
        return rule->error;
    }
    return NO_FAULT;
}

static long unknown(long number, const char *path) {
    lock();
    note_path(UNKNOWN, number, 0, path);
    unlock();
    return -ENOSYS;
}

static long do_open(int folder, const char *given, int flags, int mode) {
    char buffer[PATH_MAX];
    const char *path = of_path(folder, given, buffer);
    if (path == NULL) {
        if (boot != NULL && given != NULL && strcmp(given, BOOT_ID) == 0) given = boot;
        return CALL4(SYS_openat, folder, given, flags, mode);
    }
    if ((flags & O_TMPFILE) == O_TMPFILE || flags & O_DSYNC) return unknown(SYS_openat, path);
    lock();
    int writes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    long failed = fault(writes ? ON_OPEN_WRITE : ON_OPEN_READ, path, NULL);
    uint64_t before = flags & (O_CREAT | O_TRUNC) ? inode_at(folder, given) : 0;
    long fd = failed == NO_FAULT ? CALL4(SYS_openat, folder, given, flags, mode) : -failed;
    if (fd >= 0 && flags & O_CREAT && before == 0) note_path(CREATE, inode_at(folder, given), 0, path);
    else if (fd >= 0 && flags & O_TRUNC) note(LENGTH, before, 0, NULL, 0);
    unlock();
    return fd;
}

static long do_write(int fd, const struct iovec *pieces, int count, long offset) {
    char buffer[PATH_MAX];
    const char *path;
    uint64_t file = inode(fd, buffer, &path);
    size_t asked = 0, room;
    for (int i = 0; i < count; i++) asked += pieces[i].iov_len;
    room = asked;
    lock();
    long failed = fault(ON_WRITE, path, &room), written = 0, at = offset;
    if (failed == NO_FAULT && at < 0) {
        int is_append = CALL(SYS_fcntl, fd, F_GETFL, 0) & O_APPEND;
        at = CALL(SYS_lseek, fd, 0, is_append ? SEEK_END : SEEK_CUR);
    }
    for (int i = 0; failed == NO_FAULT && i < count && room > 0; i++) {
        size_t length = pieces[i].iov_len < room ? pieces[i].iov_len : room;
        long done = length == 0 ? 0 : CALL4(SYS_pwrite64, fd, pieces[i].iov_base, length, at + written);
        if (done < 0) failed = written > 0 ? NO_FAULT : -done;
        if (done <= 0 && length > 0) break;
        if (done > 0) note(WRITE, file, at + written, pieces[i].iov_base, done);
        written += done;
        room -= done;
        if ((size_t)done < length) break;
    }
    if (failed == NO_FAULT && offset < 0) CALL(SYS_lseek, fd, at + written, SEEK_SET);
    unlock();
    return failed == NO_FAULT ? written : -failed;
}

static long do_copy(int from, long *from_at, int to, long *to_at, size_t length) {
    char buffer[PATH_MAX], piece[1 << 16];
    const char *path;
    uint64_t file = inode(to, buffer, &path);
    if (from_at == NULL || to_at == NULL) return unknown(SYS_copy_file_range, path);
    size_t room = length < 1 << 20 ? length : 1 << 20;
    lock();
    long failed = fault(ON_WRITE, path, &room), copied = 0;
    while (failed == NO_FAULT && room > 0) {
        size_t want = room < sizeof piece ? room : sizeof piece;
        long got = CALL4(SYS_pread64, from, piece, want, *from_at + copied);
        if (got <= 0) { if (got < 0) failed = -got; break; }
        long done = CALL4(SYS_pwrite64, to, piece, got, *to_at + copied);
        if (done < 0) { failed = -done; break; }
        note(WRITE, file, *to_at + copied, piece, done);
        copied += done;
        room -= done;
    }
    if (failed == NO_FAULT) { *from_at += copied; *to_at += copied; }
    unlock();
    return failed == NO_FAULT ? copied : -failed;
}

static long do_sync(uint64_t what, const char *path, int makes_durable) {
    lock();
    long failed = fault(ON_SYNC, path, NULL);
    uint64_t ticket = ++tickets;
    if (makes_durable || failed > 0) note(BEGIN, what, ticket, NULL, 0);
    unlock();
    if (sync_us > 0) {
        struct timespec pause = {sync_us / 1000000, sync_us % 1000000 * 1000};
        CALL(SYS_nanosleep, &pause, NULL, 0);
    }
    lock();
    if (failed > 0) note(FAILED, what, ticket, NULL, 0);
    else if (failed == NO_FAULT && makes_durable) note(END, what, ticket, NULL, 0);
    unlock();
    return failed > 0 ? -failed : 0;
}

static long do_rename(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    char first[PATH_MAX], second[PATH_MAX];
    const char *old = of_path(from_folder, from, first), *new = of_path(to_folder, to, second);
    if (old == NULL && new == NULL)
        return shim_call(SYS_renameat2, from_folder, (long)from, to_folder, (long)to, flags, 0);
    if (old == NULL || new == NULL || flags & ~RENAME_NOREPLACE) return unknown(SYS_renameat2, new ? new : old);
    lock();
    long failed = fault(ON_RENAME, new, NULL);
    long done = failed != NO_FAULT ? -failed
        : shim_call(SYS_renameat2, from_folder, (long)from, to_folder, (long)to, flags, 0);
    if (done == 0) note_paths(RENAME, 0, old, new);
    unlock();
    return done;
}

static long do_link(int from_folder, const char *from, int to_folder, const char *to, int flags) {
    char first[PATH_MAX], second[PATH_MAX];
    const char *old = of_path(from_folder, from, first), *new = of_path(to_folder, to, second);
    if (new == NULL) return shim_call(SYS_linkat, from_folder, (long)from, to_folder, (long)to, flags, 0);
    if (old == NULL || flags != 0) return unknown(SYS_linkat, new);
    lock();
    long failed = fault(ON_LINK, new, NULL);
    long done = failed != NO_FAULT ? -failed
        : shim_call(SYS_linkat, from_folder, (long)from, to_folder, (long)to, 0, 0);
    if (done == 0) note_paths(LINK, 0, old, new);
    unlock();
    return done;
}

static long do_remove(int folder, const char *given, int flags) {
    char buffer[PATH_MAX];
    const char *path = of_path(folder, given, buffer);
    if (path == NULL) return CALL(SYS_unlinkat, folder, given, flags);
    lock();
    long failed = fault(ON_REMOVE, path, NULL);
    long done = failed == NO_FAULT ? CALL(SYS_unlinkat, folder, given, flags) : -failed;
    if (done == 0) note_path(REMOVE, 0, 0, path);
    unlock();
    return done;
}

static long do_mkdir(int folder, const char *given, int mode) {
    char buffer[PATH_MAX];
    const char *path = of_path(folder, given, buffer);
    if (path == NULL) return CALL(SYS_mkdirat, folder, given, mode);
    lock();
    long failed = fault(ON_MKDIR, path, NULL);
    long done = failed == NO_FAULT ? CALL(SYS_mkdirat, folder, given, mode) : -failed;
    if (done == 0) note_path(MKDIR, inode_at(folder, given), 0, path);
    unlock();
    return done;
}

#include "calls.h"
