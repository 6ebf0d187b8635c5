#!/usr/bin/env python3
"""Runs a program under what a systemd unit forbids, on a machine where systemd does not run.

    confine.py UNIT USER WRITABLE PROGRAM [ARGUMENT...]

As the user, where root starts it. WRITABLE is a list of directories, with `:` between them.

As systemd does it, by libseccomp: NoNewPrivileges, SystemCallFilter, SystemCallErrorNumber, MemoryDenyWriteExecute,
RestrictAddressFamilies, RestrictNamespaces. Also LimitCORE, UMask, PrivateUsers (without root in it); and where root
starts it: ProtectSystem=strict, ProtectProc, PrivateIPC, an empty CapabilityBoundingSet. A unit that does
not say one of them any more is an error: then this would test something else.
"""

import ctypes
import errno
import os
import pwd
import resource
import socket
import subprocess
import sys

ALLOW = 0x7FFF0000
EQUAL, MASKED, GREATER = 4, 7, 6
WRITE, EXEC, SHM_EXEC = 2, 4, 0o100000
# The flag of each kind of namespace; that of time namespaces systemd does not know.
NAMESPACES = {
    "cgroup": 0x02000000, "ipc": 0x08000000, "net": 0x40000000, "mnt": 0x00020000, "pid": 0x20000000, "user": 0x10000000,
    "uts": 0x04000000, "time": 0x00000080,
}
NEWNS, NEWUSER, NEWIPC = 0x00020000, 0x10000000, 0x08000000
PR_SET_DUMPABLE, PR_CAPBSET_DROP = 4, 24
LIBC = ctypes.CDLL(None, use_errno=True)
WANTED = {
    "NoNewPrivileges": "yes", "MemoryDenyWriteExecute": "yes", "LimitCORE": "0",
    "UMask": "0077", "SystemCallErrorNumber": "EPERM", "PrivateUsers": "yes", "ProtectSystem": "strict",
    "ProtectProc": "invisible", "PrivateIPC": "yes", "CapabilityBoundingSet": "",
}


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def settings(unit):
    """Every value of each key, in order: keys may stand several times."""
    found = {}
    text = open(unit, encoding="utf-8").read().replace("\\\n", " ")
    for line in text.splitlines():
        if "=" in line and not line.startswith(("#", ";", "[")):
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value.strip())
    return found


def members(name):
    """The system calls of a set; of a call, itself."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True).stdout
    words = [line.strip() for line in text.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(members(word) for word in words))


def allowed(lines):
    calls = set()
    for line in lines:
        for name in line.removeprefix("~").split():
            calls = calls - members(name) if line.startswith("~") else calls | members(name)
    return calls


def call(name, *arguments):
    if getattr(LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{name}{arguments}: {os.strerror(ctypes.get_errno())}")


def become(user, writable):
    """What only root can arrange, and then the user."""
    call("unshare", NEWNS | NEWIPC)
    mount = lambda *arguments: subprocess.run(["mount", *arguments], check=True)
    mount("--make-rprivate", "/")
    for folder in writable:
        mount("--bind", folder, folder)
    mount("-o", "remount,bind,ro", "/")
    mount("-t", "proc", "-o", "hidepid=invisible", "proc", "/proc")
    # The kernel may know fewer capabilities than there are numbers.
    for number in range(41):
        LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)


def alone():
    """A user namespace that knows this user only."""
    uid, gid = os.getuid(), os.getgid()
    call("unshare", NEWUSER)
    for name, text in [("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")]:
        with open(f"/proc/self/{name}", "wb") as file:
            file.write(text.encode())


def confine(seccomp, calls, families, namespaces):
    refuse = lambda number: 0x00050000 | number

    def filter_of(default, rules):
        """Loads one filter; of several, the strictest answer counts."""
        context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(default)))
        for action, name, compares in rules:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:
                array = (Compare * len(compares))(*compares)
                result = seccomp.seccomp_rule_add_array(context, ctypes.c_uint32(action), number, len(compares), array)
                assert result == 0, (name, result)
        assert seccomp.seccomp_load(context) == 0

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    eperm = refuse(errno.EPERM)
    both = WRITE | EXEC
    unknown = [n for n in range(64) if n not in families]
    refused = [flag for name, flag in NAMESPACES.items() if name not in namespaces]
    new = [(eperm, name, [Compare(0, MASKED, flag, flag)]) for name in ("clone", "unshare") for flag in refused]
    # The list of calls comes last: with it, no further filter could be loaded.
    filter_of(ALLOW, new + [
        (eperm, "mmap", [Compare(2, MASKED, both, both)]),
        (eperm, "mprotect", [Compare(2, MASKED, EXEC, EXEC)]),
        (eperm, "pkey_mprotect", [Compare(2, MASKED, EXEC, EXEC)]),
        (eperm, "shmat", [Compare(2, MASKED, SHM_EXEC, SHM_EXEC)]),
        (eperm, "setns", []),
        (refuse(errno.ENOSYS), "clone3", []),
        *[(refuse(errno.EAFNOSUPPORT), "socket", [Compare(0, EQUAL, n, 0)]) for n in unknown],
        (refuse(errno.EAFNOSUPPORT), "socket", [Compare(0, GREATER, 63, 0)]),
    ])
    filter_of(eperm, [(ALLOW, name, []) for name in sorted(calls)])


def main(unit, user, writable, *command):
    values = settings(unit)
    for key, value in WANTED.items():
        assert values.get(key) == [value], f"{unit}: {key}={values.get(key)}"
    calls = allowed(values["SystemCallFilter"])
    assert "execve" in calls and "reboot" not in calls
    namespaces = values["RestrictNamespaces"][0].split()
    assert set(namespaces) <= set(NAMESPACES), namespaces
    families = [int(getattr(socket, name)) for name in values["RestrictAddressFamilies"][0].split()]
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    # From here on the user may not be able to read Python's own files.
    if os.geteuid() == 0:
        become(user, writable.split(":"))
    alone()
    confine(seccomp, calls, families, namespaces)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
