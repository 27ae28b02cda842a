//! How many files and sockets may be open, and how many connections that leaves room for.
//!
//! A process begins with 1024 nearly everywhere, for the sake of programs that use `select(2)`. The router does not: it takes what
//! it may have. And whatever clients do with their connections, some are left for what else there is: the admin side, the
//! journal, plugins and what they reach by the proxy, rule files. A worker sets a limit of its own for itself.

use std::num::NonZeroUsize;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Has as many descriptors allowed as there can be, and gives how many of the `wanted` connections they suffice for.
pub(super) fn connections(wanted: NonZeroUsize) -> NonZeroUsize {
    let Some(open_files) = raise() else { return wanted };
    let connections = wanted.min(room(open_files));
    if connections < wanted {
        tracing::warn!(
            open_files,
            connections,
            configured = wanted,
            "so few files may be open that fewer connections are taken than configured; `LimitNOFILE=` of systemd, or `ulimit -n`, raises it"
        );
    }
    connections
}

/// Raises the limit as far as it goes, and gives what it is then; nothing where there is none.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(error = %error, "the limit of open files could not be raised");
            current
        }
    }
}

/// For how many connections there is room.
fn room(open_files: u64) -> NonZeroUsize {
    let room = open_files - RESERVED.min(open_files / 2);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN)
}

/// Descriptors that no client takes.
const RESERVED: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        for (open_files, expected) in [
            (0, 1),
            (1, 1),
            (256, 128),
            (1024, 768),
            (1 << 20, (1 << 20) - 256),
        ] {
            assert_eq!(room(open_files).get(), expected, "{open_files}");
        }
    }
}
