//! System calls, by a seccomp filter: which kinds of sockets there are, and what no plugin needs.
//!
//! It names what is denied. What a plugin or a program of its needs is not known in full, and an unknown call denied
//! breaks what Landlock would have kept in bounds. What is denied gives EPERM, and kills nothing: a library that tries
//! something better first can go on with what it has.

use std::collections::BTreeMap;

use libc::{SYS_clone, SYS_clone3, SYS_socket, SYS_socketpair, c_long};
use seccompiler::{
    BpfProgram, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use super::{Sandbox, SandboxError};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Confines this thread, and those that it starts.
pub(super) fn confine(sandbox: &Sandbox) -> Result<(), SandboxError> {
    let Some(arch) = arch() else { return Ok(()) };
    let program = program(sandbox, arch).map_err(seccompiler::Error::Backend)?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

/// What is not enforced on this processor.
pub(super) fn lacks() -> Option<&'static str> {
    match arch() {
        Some(_) => None,
        None => Some("system calls and kinds of sockets (no seccomp filter for this processor)"),
    }
}

fn arch() -> Option<TargetArch> {
    TargetArch::try_from(std::env::consts::ARCH).ok()
}

fn program(sandbox: &Sandbox, arch: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules(sandbox)?, SeccompAction::Allow, denied, arch)?;
    let rest: BpfProgram = filter.try_into()?;
    Ok(unknown_here().into_iter().chain(rest).collect())
}

/// Calls that are said not to exist, before all others: `clone3`, whose flags no filter can see, so that the C library
/// takes `clone` instead; and on x86-64 all of the 32-bit kind in 64-bit mode, which have numbers of their own.
///
/// The program begins with the check of the architecture, in which all of these numbers mean something; where it fails,
/// what these give is no more than an error.
fn unknown_here() -> Vec<sock_filter> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32: u32 = 0x4000_0000;
    let statement = |code, k| sock_filter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    let unless = |code, k| sock_filter {
        code,
        jt: 0,
        jf: 1,
        k,
    };
    let missing = statement(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs());
    let clone3 = u32::try_from(SYS_clone3).expect("numbers of calls are small");
    // The number of the call is the first word of what a filter sees.
    let mut program = vec![
        statement(LOAD_WORD, 0),
        unless(JUMP_IF_EQUAL, clone3),
        missing.clone(),
    ];
    if cfg!(target_arch = "x86_64") {
        program.extend([unless(JUMP_IF_AT_LEAST, X32), missing]);
    }
    program
}

fn rules(sandbox: &Sandbox) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = NEVER
        .iter()
        .chain(NEVER_HERE)
        .map(|call| (*call, Vec::new()))
        .collect();
    rules.insert(SYS_socket, sockets(sandbox.proxy.is_some())?);
    rules.insert(SYS_socketpair, pairs()?);
    // To connect by the first bytes is to connect where Landlock does not look.
    for (call, flags) in [
        (libc::SYS_sendto, 3),
        (libc::SYS_sendmsg, 2),
        (libc::SYS_sendmmsg, 3),
    ] {
        let fast_open = masked(flags, libc::MSG_FASTOPEN, libc::MSG_FASTOPEN)?;
        rules.insert(call, vec![all([fast_open])?]);
    }
    rules.insert(SYS_clone, clones(!sandbox.programs.is_empty())?);
    // Limits of other processes, and their place in line, are none of its business.
    rules.insert(libc::SYS_prlimit64, vec![all([not(0, 0)?])?]);
    rules.insert(
        libc::SYS_setpriority,
        vec![all([not(0, 0)?])?, all([not(1, 0)?])?],
    );
    // A signal when something can be read, to whom it is not allowed to send one: before Linux 6.12 nothing else asks.
    let owners = [F_SETOWN, F_SETOWN_EX, F_SETSIG].map(|command| all([is(1, command)?]));
    rules.insert(libc::SYS_fcntl, owners.into_iter().collect::<Result<_, _>>()?);
    let requests = OF_OWNERS.iter().chain(OF_ATTRIBUTES);
    let requests = requests.map(|request| all([is(1, *request)?]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    // It ends with its router. What it starts may end with it, and be told so by the same signal.
    let other = [is(0, libc::PR_SET_PDEATHSIG)?, not(1, libc::SIGKILL)?];
    rules.insert(libc::SYS_prctl, vec![all(other)?]);
    // Of what it has open itself, it may change them where it may write: to copy a file is to do so.
    let named = SeccompCondition::new(1, Qword, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_utimensat, vec![all([named])?]);
    if sandbox.write.is_empty() {
        rules.extend(OF_OPEN_FILES.iter().map(|call| (*call, Vec::new())));
    }
    if sandbox.programs.is_empty() {
        rules.extend(PROGRAMS.iter().map(|call| (*call, Vec::new())));
        // It has nobody to signal but itself, to which this can see where Landlock knows no signals.
        let itself = rustix::process::getpid().as_raw_nonzero().get();
        for call in SIGNALS {
            rules.insert(*call, vec![all([not(0, itself)?])?]);
        }
    }
    Ok(rules)
}

/// `socket(domain, type, protocol)`: TCP to the proxy, or nothing. No datagrams, not even to find a host, which the proxy
/// does; and no Unix sockets, at whose other end is somebody with other rights.
fn sockets(network: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    if !network {
        return Ok(Vec::new());
    }
    let mut denied = vec![
        all([not(0, libc::AF_INET)?])?,
        // Neither MPTCP nor SCTP, which Landlock does not see.
        all([not(2, 0)?, not(2, libc::IPPROTO_TCP)?])?,
    ];
    denied.extend(kinds_but(&[libc::SOCK_STREAM])?);
    Ok(denied)
}

/// `socketpair`: streams to oneself, and the packets by which Rust's library hears from a program that it starts. From
/// one for datagrams, everybody's can be written to.
fn pairs() -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let mut denied = vec![all([not(0, libc::AF_UNIX)?])?];
    denied.extend(kinds_but(&[libc::SOCK_STREAM, libc::SOCK_SEQPACKET])?);
    Ok(denied)
}

/// Every kind of socket but these, whatever flags come with it.
fn kinds_but(kinds: &[i32]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let others = (0..=KIND_MASK).filter(|kind| !kinds.contains(kind));
    others.map(|kind| all([masked(1, KIND_MASK, kind)?])).collect()
}

/// `clone(flags, …)`: no namespaces, and no processes where there are no programs.
fn clones(programs: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let namespaces = NAMESPACES.iter().map(|flag| all([masked(0, *flag, *flag)?]));
    let mut denied = namespaces.collect::<Result<Vec<_>, _>>()?;
    if !programs {
        denied.push(all([masked(0, libc::CLONE_THREAD, 0)?])?);
    }
    Ok(denied)
}

fn all<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into())
}

fn is(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, bits(value))
}

fn not(argument: u8, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::Ne, bits(value))
}

fn masked(argument: u8, mask: i32, value: i32) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(bits(mask)), bits(value))
}

fn bits(value: i32) -> u64 {
    value.cast_unsigned().into()
}

/// What of the second argument of `socket` is the kind; the rest are flags.
const KIND_MASK: i32 = 0xf;

const NAMESPACES: &[i32] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// What sends a signal to the process that its first argument names.
const SIGNALS: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
];

/// What starts a process or a program, or signals one that is named in another way than by its number.
const PROGRAMS: &[c_long] = &[
    libc::SYS_tkill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_execve,
    libc::SYS_execveat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Commands of `fcntl` by which somebody else is signalled.
const F_SETOWN: i32 = 8;
const F_SETSIG: i32 = 10;
const F_SETOWN_EX: i32 = 15;

/// The same, as requests of `ioctl`: `FIOSETOWN` and `SIOCSPGRP`.
const OF_OWNERS: &[i32] = &[0x8901, 0x8902];

/// Requests of `ioctl` that change the attributes of a file that is open, for reading too: `FS_IOC_SETFLAGS` in both its widths,
/// `FS_IOC_FSSETXATTR`, and `FS_IOC_ENABLE_VERITY`, after which nobody can write to it.
const OF_ATTRIBUTES: &[i32] = &[0x4008_6602, 0x4004_6602, 0x401c_5820, 0x4080_6685];

/// What changes the mode and the times of a file that is open, for reading too.
const OF_OPEN_FILES: &[c_long] = &[libc::SYS_fchmod, libc::SYS_utimensat];

const NEVER: &[c_long] = &[
    // Modes, owners, times and attributes of files, by their paths: Landlock knows none of it, so that it would be all files of
    // the router's user.
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchownat,
    libc::SYS_fchown,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    SYS_SETXATTRAT,
    SYS_REMOVEXATTRAT,
    SYS_FILE_SETATTR,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_ioprio_set,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Namespaces, mounts, and what goes by another way than a path.
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_fanotify_init,
    // What goes on in directories, also in those that it may not list.
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    // Memory that belongs to no file and no process, and queues that outlive theirs.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    // Parts of the kernel that have been good for little but attacks on it.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_personality,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    // A plugin is called, and answers nobody else.
    libc::SYS_listen,
];

/// Newer than our C library; new numbers are the same on every processor.
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_FILE_SETATTR: c_long = 469;

#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[c_long] = &[
    libc::SYS_inotify_init,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_kexec_file_load,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[c_long] = &[];
