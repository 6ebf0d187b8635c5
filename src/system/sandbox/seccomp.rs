//! The system calls that are refused in the sandbox: those that reach into the kernel, other processes or other namespaces, and
//! that no database has a use for. The list follows what Docker and Flatpak refuse
//! (<https://docs.docker.com/engine/security/seccomp/>, `flatpak_run_setup_seccomp`).

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::error::{Error, Result, ResultExt};

/// Refused whatever their arguments are.
const REFUSED: &[libc::c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // Keys of the kernel are in no namespace.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_personality,
    libc::SYS_vhangup,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
];

/// Flags of `clone` that make namespaces.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// The filters, as arrays of `struct sock_filter`. All of them apply; the strictest answer counts.
pub(super) fn programs() -> Result<Vec<Vec<u8>>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // Sockets of other families can lead out of a network namespace (vsock), or deep into the kernel.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let none_of = families.map(|family| condition(0, SeccompCmpOp::Ne, family as u64));
    rules.insert(libc::SYS_socket, vec![rule(none_of.into_iter().collect::<Result<_>>()?)?]);
    // A namespace within gives rights over parts of the kernel that few programs ever touch.
    let any = |flag: u64| rule(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?]);
    let flags = (0..u64::BITS).map(|bit| 1 << bit).filter(|flag| NEW_NAMESPACES & flag != 0);
    rules.insert(libc::SYS_clone, flags.map(any).collect::<Result<_>>()?);
    // Typing into the terminal that marbre was started from.
    let typing = condition(1, SeccompCmpOp::Eq, libc::TIOCSTI)?;
    rules.insert(libc::SYS_ioctl, vec![rule(vec![typing])?]);
    // Its flags are in memory, where a filter cannot look; without it, libraries use `clone`.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(vec![compile(rules, libc::EPERM)?, compile(absent, libc::ENOSYS)?])
}

fn condition(argument: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
        .or_internal("make a system call filter")
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule> {
    SeccompRule::new(conditions).or_internal("make a system call filter")
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<Vec<u8>> {
    let what = "make a system call filter";
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|e| Error::preflight("there is no sandbox for processors of this kind").cause(e))?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).or_internal(what)?;
    let program: BpfProgram = filter.try_into().or_internal(what)?;
    let instruction = |i: &seccompiler::sock_filter| {
        let [c0, c1] = i.code.to_ne_bytes();
        let [k0, k1, k2, k3] = i.k.to_ne_bytes();
        [c0, c1, i.jt, i.jf, k0, k1, k2, k3]
    };
    Ok(program.iter().flat_map(instruction).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_whole_instructions() {
        for program in programs().unwrap() {
            assert!(!program.is_empty() && program.len() % 8 == 0);
            // The kernel's limit, BPF_MAXINSNS.
            assert!(program.len() / 8 < 4096, "{} instructions", program.len() / 8);
        }
    }
}
