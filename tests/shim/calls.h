/* The rest of shim.c: which system calls are handed over, and how one gets to its function. */

static long do_length(int fd, const char *path, uint64_t file, long number, long a, long b, long c) {
    struct stat found;
    lock();
    long failed = fault(ON_LENGTH, path, NULL);
    long done = failed == NO_FAULT ? CALL4(number, fd, a, b, c) : -failed;
    if (done == 0 && CALL(SYS_fstat, fd, &found, 0) == 0) note(LENGTH, file, found.st_size, NULL, 0);
    unlock();
    return done;
}

/* A call on a descriptor of a file or folder below the root. */
static long on_watched(long number, const long *arg, uint64_t file, const char *path) {
    struct iovec whole = {(void *)arg[1], arg[2]};
    switch (number) {
    case SYS_write: return do_write(arg[0], &whole, 1, -1);
    case SYS_writev: return do_write(arg[0], (void *)arg[1], arg[2], -1);
    case SYS_pwrite64: return do_write(arg[0], &whole, 1, arg[3]);
    case SYS_pwritev: return do_write(arg[0], (void *)arg[1], arg[2], arg[3]);
    case SYS_pwritev2:
        if (arg[5] & ~RWF_DONTCACHE) return unknown(number, path);
        return do_write(arg[0], (void *)arg[1], arg[2], arg[3]);
    case SYS_fsync: case SYS_fdatasync: return do_sync(file, path, 1);
    case SYS_syncfs: return do_sync(0, path, 1);
    /* Neither the length nor the disk's own cache: nothing is durable by this. */
    case SYS_sync_file_range: return do_sync(file, path, 0);
    case SYS_ftruncate: return do_length(arg[0], path, file, number, arg[1], 0, 0);
    case SYS_fallocate:
        if (arg[1] & ~FALLOC_FL_KEEP_SIZE) return unknown(number, path);
        return do_length(arg[0], path, file, number, arg[1], arg[2], arg[3]);
    case SYS_ioctl: return -EOPNOTSUPP;
    case SYS_read: case SYS_pread64: case SYS_readv: case SYS_preadv: {
        lock();
        long failed = fault(ON_READ, path, NULL);
        unlock();
        if (failed != NO_FAULT) return -failed;
        return shim_call(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
    }
    default: return unknown(number, path);
    }
}

static long dispatch(long number, const long *arg) {
    char buffer[PATH_MAX];
    const char *path;
    uint64_t file = 0;
    int here = AT_FDCWD;
    switch (number) {
    case SYS_open: return do_open(here, (void *)arg[0], arg[1], arg[2]);
    case SYS_creat: return do_open(here, (void *)arg[0], O_CREAT | O_WRONLY | O_TRUNC, arg[1]);
    case SYS_openat: return do_open(arg[0], (void *)arg[1], arg[2], arg[3]);
    case SYS_rename: return do_rename(here, (void *)arg[0], here, (void *)arg[1], 0);
    case SYS_renameat: return do_rename(arg[0], (void *)arg[1], arg[2], (void *)arg[3], 0);
    case SYS_renameat2: return do_rename(arg[0], (void *)arg[1], arg[2], (void *)arg[3], arg[4]);
    case SYS_link: return do_link(here, (void *)arg[0], here, (void *)arg[1], 0);
    case SYS_linkat: return do_link(arg[0], (void *)arg[1], arg[2], (void *)arg[3], arg[4]);
    case SYS_unlink: return do_remove(here, (void *)arg[0], 0);
    case SYS_rmdir: return do_remove(here, (void *)arg[0], AT_REMOVEDIR);
    case SYS_unlinkat: return do_remove(arg[0], (void *)arg[1], arg[2]);
    case SYS_mkdir: return do_mkdir(here, (void *)arg[0], arg[1]);
    case SYS_mkdirat: return do_mkdir(arg[0], (void *)arg[1], arg[2]);
    case SYS_sync: return do_sync(0, "", 1);
    case SYS_truncate: path = of_path(here, (void *)arg[0], buffer); file = path != NULL; break;
    case SYS_symlink: path = of_path(here, (void *)arg[1], buffer); file = path != NULL; break;
    case SYS_symlinkat: path = of_path(arg[1], (void *)arg[2], buffer); file = path != NULL; break;
    case SYS_openat2: path = of_path(arg[0], (void *)arg[1], buffer); file = path != NULL; break;
    case SYS_io_uring_setup: return -ENOSYS;
    case SYS_copy_file_range:
        if (inode(arg[2], buffer, &path) != 0)
            return do_copy(arg[0], (void *)arg[1], arg[2], (void *)arg[3], arg[4]);
        break;
    /* The program is to do what it does on ext4. */
    case SYS_statfs: {
        long done = CALL(number, arg[0], arg[1], 0);
        if (done == 0 && of_path(here, (void *)arg[0], buffer) != NULL)
            ((struct statfs *)arg[1])->f_type = EXT4_SUPER_MAGIC;
        return done;
    }
    case SYS_mmap: file = inode(arg[4], buffer, &path); break;
    case SYS_splice: file = inode(arg[2], buffer, &path); break;
    default: file = inode(arg[0], buffer, &path); break;
    }
    if (file != 0) return on_watched(number, arg, file, path);
    return shim_call(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}

static void trapped(int signal, siginfo_t *told, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    long arg[] = {registers[REG_RDI], registers[REG_RSI], registers[REG_RDX],
                  registers[REG_R10], registers[REG_R8],  registers[REG_R9]};
    registers[REG_RAX] = dispatch(told->si_syscall, arg);
    (void)signal;
}

static const int handed_over[] = {
    SYS_open, SYS_creat, SYS_openat, SYS_openat2, SYS_read, SYS_pread64, SYS_readv, SYS_preadv,
    SYS_preadv2, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_fsync,
    SYS_fdatasync, SYS_syncfs, SYS_sync, SYS_sync_file_range, SYS_truncate, SYS_ftruncate,
    SYS_fallocate, SYS_rename, SYS_renameat, SYS_renameat2, SYS_link, SYS_linkat, SYS_unlink,
    SYS_unlinkat, SYS_rmdir, SYS_mkdir, SYS_mkdirat, SYS_symlink, SYS_symlinkat, SYS_copy_file_range,
    SYS_sendfile, SYS_splice, SYS_io_uring_setup, SYS_statfs,
};
enum { HANDED_OVER = sizeof handed_over / sizeof *handed_over, ARGUMENT = offsetof(struct seccomp_data, args) };

#define LOAD(at) *next++ = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define JUMP(test, value, yes, no) *next++ = (struct sock_filter)BPF_JUMP(BPF_JMP | test | BPF_K, value, yes, no)
#define RETURN(what) *next++ = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what)

static void install(void) {
    struct sock_filter filter[2 * HANDED_OVER + 40], *next = filter;
    uint64_t begin = (uint64_t)shim_call, end = (uint64_t)shim_call_end;
    if (begin >> 32 != end >> 32) die("lies across 4 GiB");
    LOAD(offsetof(struct seccomp_data, arch));
    JUMP(BPF_JEQ, AUDIT_ARCH_X86_64, 1, 0);
    RETURN(SECCOMP_RET_ALLOW);
    LOAD(offsetof(struct seccomp_data, instruction_pointer) + 4);
    JUMP(BPF_JEQ, begin >> 32, 0, 4);
    LOAD(offsetof(struct seccomp_data, instruction_pointer));
    JUMP(BPF_JGE, (uint32_t)begin, 0, 2);
    JUMP(BPF_JGT, (uint32_t)end, 1, 0);
    RETURN(SECCOMP_RET_ALLOW);
    LOAD(offsetof(struct seccomp_data, nr));
    for (int i = 0; i < HANDED_OVER; i++) {
        JUMP(BPF_JEQ, handed_over[i], 0, 1);
        RETURN(SECCOMP_RET_TRAP);
    }
    /* A file that shares its blocks with another. */
    JUMP(BPF_JEQ, SYS_ioctl, 0, 4);
    LOAD(ARGUMENT + 8);
    JUMP(BPF_JEQ, (uint32_t)FICLONE, 1, 0);
    JUMP(BPF_JEQ, (uint32_t)FICLONERANGE, 0, 1);
    RETURN(SECCOMP_RET_TRAP);
    /* Memory that is written back to a file. */
    LOAD(offsetof(struct seccomp_data, nr));
    JUMP(BPF_JEQ, SYS_mmap, 0, 5);
    LOAD(ARGUMENT + 16);
    JUMP(BPF_JSET, PROT_WRITE, 0, 3);
    LOAD(ARGUMENT + 24);
    JUMP(BPF_JSET, MAP_SHARED, 0, 1);
    RETURN(SECCOMP_RET_TRAP);
    RETURN(SECCOMP_RET_ALLOW);
    struct sock_fprog program = {next - filter, filter};
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    if (sigaction(SIGSYS, &action, NULL) < 0) die("cannot catch SIGSYS");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) die("no_new_privs is refused");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) die("seccomp is refused");
}

__attribute__((constructor)) static void start(void) {
    const char *folder = getenv("SHIM_ROOT"), *to = getenv("SHIM_TRACE"), *pause = getenv("SHIM_SYNC_US");
    if (folder == NULL || to == NULL || strlen(folder) >= PATH_MAX) die("SHIM_ROOT and SHIM_TRACE are needed");
    strcpy(root, folder);
    root_length = strlen(root);
    control = getenv("SHIM_CONTROL");
    boot = getenv("SHIM_BOOT");
    sync_us = pause == NULL ? 0 : strtol(pause, NULL, 10);
    trace = open(to, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (trace < 0) die("cannot open the trace");
    install();
}
