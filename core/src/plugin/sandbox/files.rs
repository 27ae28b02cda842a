//! Files, TCP and signals, by Landlock.
//!
//! What is not given is denied, even to root. Paths are resolved when rules are made, so that a symbolic link is given with
//! what it points to, and what is put in its place later is not.

use std::{io, path::Path};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, Scope,
};

use super::SandboxError;

/// What a process is given.
#[derive(Debug)]
pub(super) struct Given {
    rules: Vec<(PathFd, BitFlags<AccessFs>)>,
    port: Option<u16>,
}

impl Given {
    /// What it takes to load the library at `path`, and what every process may touch.
    pub(super) fn to_load(path: &Path) -> Result<Self, SandboxError> {
        let mut given = Self {
            rules: Vec::new(),
            port: None,
        };
        given.read(path)?;
        given.read_if_there(LIBRARIES);
        given.read_if_there(&[
            "/dev/zero",
            "/dev/urandom",
            "/dev/random",
            "/etc/localtime",
            "/usr/share/zoneinfo",
        ]);
        given.add_if_there("/dev/null", read() | AccessFs::WriteFile);
        Ok(given)
    }

    /// A file, or a directory with all that is in it, to be read.
    pub(super) fn read(&mut self, path: &Path) -> Result<(), SandboxError> {
        self.add(path, "reading", read())
    }

    /// The same, to be written as well: files and directories, and neither devices nor sockets.
    pub(super) fn write(&mut self, path: &Path) -> Result<(), SandboxError> {
        self.add(path, "writing", read() | write())
    }

    /// Connections to this port, of whichever host: the kernel does not tell them apart. And whom to trust there.
    pub(super) fn connect(&mut self, port: u16) {
        self.port = Some(port);
        self.read_if_there(AUTHORITIES);
    }

    /// What is there of `paths`, to be read.
    pub(super) fn read_if_there(&mut self, paths: &[&str]) {
        for path in paths {
            self.add_if_there(path, read());
        }
    }

    /// A program, or a directory of them, if it is there.
    pub(super) fn run(&mut self, path: impl AsRef<Path>) {
        self.add_if_there(path, read() | AccessFs::Execute);
    }

    fn add(
        &mut self,
        path: &Path,
        what: &'static str,
        access: BitFlags<AccessFs>,
    ) -> Result<(), SandboxError> {
        let open = |path: &Path| -> io::Result<(PathFd, bool)> {
            let is_dir = path.metadata()?.is_dir();
            let opened = PathFd::new(path).map_err(|error| match error {
                PathFdError::OpenCall { source, .. } => source,
                other => io::Error::other(other),
            });
            Ok((opened?, is_dir))
        };
        let (opened, is_dir) = open(path).map_err(|source| SandboxError::Path {
            what,
            path: path.to_owned(),
            source,
        })?;
        let access = if is_dir {
            access
        } else {
            access & AccessFs::from_file(KNOWN)
        };
        self.rules.push((opened, access));
        Ok(())
    }

    /// What is not there cannot be reached either.
    fn add_if_there(&mut self, path: impl AsRef<Path>, access: BitFlags<AccessFs>) {
        let _ = self.add(path.as_ref(), "running", access);
    }
}

/// Confines this thread, and those that it starts, to what is given.
pub(super) fn confine(given: &Given) -> Result<(), SandboxError> {
    let mut created = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?
        .scope(Scope::AbstractUnixSocket | Scope::Signal)?
        .create()?;
    if let Some(port) = given.port {
        created = created.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    for (opened, access) in &given.rules {
        created = created.add_rule(PathBeneath::new(opened, *access))?;
    }
    created.restrict_self()?;
    Ok(())
}

/// What a kernel with this version of Landlock does not enforce; 0 for one without it.
pub(super) fn lacks(version: u32) -> Vec<&'static str> {
    let parts = [
        (
            1,
            "files, which plugins can open as the router can (Landlock, Linux 5.13)",
        ),
        (3, "the truncation of files (Landlock ABI 3, Linux 6.2)"),
        (
            4,
            "the proxy: plugins with any grant of the network can go around it (Landlock ABI 4, Linux 6.7)",
        ),
        (
            6,
            "signals of programs to other processes (Landlock ABI 6, Linux 6.12)",
        ),
    ];
    let lacking = parts.into_iter().filter(|(since, _)| version < *since);
    lacking.map(|(_, part)| part).collect()
}

fn read() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

fn write() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// The rights that are denied where they are not given; a kernel that does not know all of them denies the rest.
const KNOWN: ABI = ABI::V5;

/// Where the dynamic loader looks.
const LIBRARIES: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/nix/store",
    "/etc/ld.so.cache",
];

/// Whom TLS trusts; never the directories beside them, which hold private keys.
const AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/crypto-policies",
    "/var/lib/ca-certificates",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_lacks_is_what_came_after_it() {
        assert_eq!(lacks(0).len(), 4);
        assert_eq!(
            lacks(3),
            [
                "the proxy: plugins with any grant of the network can go around it (Landlock ABI 4, Linux 6.7)",
                "signals of programs to other processes (Landlock ABI 6, Linux 6.12)",
            ]
        );
        assert!(lacks(6).is_empty() && lacks(11).is_empty());
    }
}
