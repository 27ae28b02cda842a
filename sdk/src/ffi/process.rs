//! What a program does between fork and exec.

use std::{io, os::unix::process::CommandExt as _};

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// Has the program killed when the thread that starts it ends, or the process dies.
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    let parent = getpid();
    // SAFETY: between fork and exec only three system calls are made: nothing allocates, locks or touches the parent's memory.
    unsafe { command.pre_exec(move || arm(parent)) };
}

fn arm(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the signal was armed.
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::Interrupted.into())
    }
}
