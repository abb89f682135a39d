"""The system calls that generated code may make, and the filter that says so to the kernel."""

EPERM, ENOTTY, ENOSYS = 1, 25, 38

# Classic BPF over struct seccomp_data: nr at 0, arch at 4, the low word of argument i at 16 + 8i
# (both architectures are little-endian); see seccomp(2).
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_KILL, _ALLOW = 0x80000000, 0x7FFF0000
_X32 = 0x40000000  # x86-64 numbers with this bit enter through the x32 table

_WRITES = 0o3 | 0o100 | 0o1000 | 0o2000  # O_WRONLY, O_RDWR; O_CREAT; O_TRUNC; O_APPEND
_CLONE_THREAD = 0x00010000
# fcntl's F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC
_DUPLICATE_OR_READ = (0, 1, 2, 3, 1030)

# name: (number on x86-64, number on aarch64). Everything that is not listed is refused: a list of
# what is allowed stays right when a kernel grows new calls. What is listed reads files, computes,
# waits, starts threads, or asks about the process itself.
SYSTEM_CALLS: dict[str, tuple[int | None, int | None]] = {
    # open files, and names of files
    "read": (0, 63),
    "write": (1, 64),  # only to what is open for writing: /dev/null and the report
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "close": (3, 57),
    "lseek": (8, 62),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "fadvise64": (221, 223),
    # memory
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    # waiting, time, and signals to oneself
    "select": (23, None),
    "pselect6": (270, 72),
    "poll": (7, None),
    "ppoll": (271, 73),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "restart_syscall": (219, 128),
    "pause": (34, None),
    "alarm": (37, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "time": (201, None),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    # threads, and leaving
    "futex": (202, 98),
    "futex_waitv": (449, 449),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "getcpu": (309, 168),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # questions about oneself and the machine
    "getpid": (39, 172),
    "getppid": (110, 173),
    "gettid": (186, 178),
    "getpgrp": (111, None),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getgroups": (115, 158),
    "getrusage": (98, 165),
    "times": (100, 153),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getrandom": (318, 278),
}

# name: (number on x86-64, number on aarch64, argument, what that argument has to be)
ARGUMENT_CHECKED: dict[str, tuple[int | None, int | None, int, str]] = {
    "open": (2, None, 1, "reads"),
    "openat": (257, 56, 2, "reads"),
    "clone": (56, 220, 0, "thread"),
    "fcntl": (72, 25, 1, "harmless"),  # else F_SETOWN and F_SETSIG could signal other processes
}

# name: (number on x86-64, number on aarch64, errno): refusals that libraries know how to take
REFUSED: dict[str, tuple[int, int, int]] = {
    "ioctl": (16, 29, ENOTTY),
    "clone3": (435, 435, ENOSYS),  # its flags lie in memory, where a filter cannot look
    "openat2": (437, 437, ENOSYS),
}

# machine: (AUDIT_ARCH constant of linux/audit.h, column of the tables)
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}


def filter_program(machine: str) -> list[tuple[int, int, int, int]]:
    """The BPF program for an architecture, as (code, jump if true, jump if false, value)."""
    audit, column = ARCHITECTURES[machine]
    refuse = _RETURN, 0, 0, 0x00050000 | EPERM
    allow = _RETURN, 0, 0, _ALLOW
    program = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _KILL)]
    program += [(_LOAD, 0, 0, 0), (_AT_LEAST, 0, 1, _X32), refuse]
    for call in SYSTEM_CALLS.values():
        if (number := call[column]) is not None:
            program += [(_EQUAL, 0, 1, number), allow]
    for refused in REFUSED.values():
        program += [(_EQUAL, 0, 1, refused[column]), (_RETURN, 0, 0, 0x00050000 | refused[2])]
    for *numbers, argument, demand in ARGUMENT_CHECKED.values():
        if (number := numbers[column]) is not None:
            body = [(_LOAD, 0, 0, 16 + 8 * argument), *_check(demand, allow), refuse]
            program += [(_EQUAL, 0, len(body), number), *body]
    return [*program, refuse]


def _check(demand: str, allow: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    if demand == "reads":
        return [(_AND, 0, 0, _WRITES), (_EQUAL, 0, 1, 0), allow]
    if demand == "thread":
        return [(_AND, 0, 0, _CLONE_THREAD), (_EQUAL, 0, 1, _CLONE_THREAD), allow]
    return [step for value in _DUPLICATE_OR_READ for step in ((_EQUAL, 0, 1, value), allow)]
