//! What git's complaints mean. It tells by words, so it is run in the `C` locale.

/// What git's complaint comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The key or token is not good enough.
    Denied,
    /// There is no such repository, or none that we may see.
    NotFound,
    /// The host is not the one that we know.
    HostKey,
    /// The repository is elsewhere.
    Redirected,
    /// A disk is full: ours or theirs.
    DiskFull,
    /// A path that git will not have in a tree.
    Path,
    /// The mirror is broken.
    Mirror,
    /// All else: a remote that cannot be talked to now may be talked to later.
    Network,
}

impl Fault {
    /// Goes by what git says in the `C` locale; the first that fits, the specific before the general.
    pub(crate) fn of(message: &str) -> Self {
        const SIGNS: &[(Fault, &[&str])] = &[
            (
                Fault::HostKey,
                &[
                    "Host key verification failed",
                    "SSL certificate problem",
                    "server certificate verification failed",
                    // As curl says with OpenSSL, and with GnuTLS.
                    "SSL: no alternative certificate subject name",
                    "SSL: certificate subject name",
                ],
            ),
            (
                Fault::Denied,
                &[
                    "Permission denied",
                    "Authentication failed",
                    "could not read Username",
                    "could not read Password",
                    "terminal prompts disabled",
                    "returned error: 401",
                    "returned error: 403",
                    "Access denied",
                    "access denied",
                    "dubious ownership",
                    "Invalid username or password",
                    "Invalid username or token",
                    "not granted access",
                    "Too many authentication failures",
                    "error in libcrypto",
                    "invalid format",
                    "UNPROTECTED PRIVATE KEY FILE",
                    "not allowed",
                ],
            ),
            (
                Fault::NotFound,
                &[
                    "Repository not found",
                    "repository not found",
                    "' not found",
                    "does not appear to be a git repository",
                    "returned error: 404",
                    "returned error: 410",
                    "could not be found",
                    "does not exist",
                ],
            ),
            (
                Fault::Redirected,
                &[
                    "unable to update url base from redirection",
                    "returned error: 301",
                    "returned error: 302",
                    "returned error: 307",
                    "returned error: 308",
                ],
            ),
            (
                Fault::DiskFull,
                &["No space left on device", "Disk quota exceeded"],
            ),
            (Fault::Path, &["Invalid path", "invalid path"]),
            (
                Fault::Mirror,
                &[
                    "bad object",
                    "object corrupt",
                    "is corrupt",
                    "loose object",
                    "object file",
                    "did not send all necessary objects",
                    "inflate:",
                    "bad config",
                    "not a git repository",
                    "Unable to create",
                    "packed-refs",
                    "unresolved deltas",
                    "unable to read tree",
                    "mismatched algorithms",
                    "bad packed object",
                    "unable to read sha1 file",
                    "broken pack",
                    "invalid index-pack output",
                ],
            ),
        ];
        let fits = |signs: &[&str]| signs.iter().any(|sign| message.contains(sign));
        SIGNS
            .iter()
            .find(|(_, signs)| fits(signs))
            .map_or(Self::Network, |(fault, _)| *fault)
    }

    /// What a person can do about it.
    pub(crate) const fn advice(self) -> Option<&'static str> {
        match self {
            Self::Denied => {
                Some("check the key or token of this instance, and that it may write to the repository")
            }
            Self::NotFound => {
                Some("check the address; forges also say this where the key or token may not read")
            }
            Self::HostKey => Some("check `ssh.known_hosts` or `ca_file` of this instance against the host"),
            Self::Redirected => Some("the repository has moved: name its new address"),
            Self::DiskFull | Self::Path | Self::Mirror | Self::Network => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_told_apart() {
        for (message, fault) in [
            (
                "git@github.com: Permission denied (publickey).\nfatal: Could not read from remote repository.",
                Fault::Denied,
            ),
            ("fatal: Authentication failed for 'https://h/x/'", Fault::Denied),
            (
                "fatal: could not read Username for 'https://h': terminal prompts disabled",
                Fault::Denied,
            ),
            (
                "fatal: unable to access 'https://h/x/': The requested URL returned error: 403",
                Fault::Denied,
            ),
            (
                "fatal: detected dubious ownership in repository at '/srv/x'",
                Fault::Denied,
            ),
            (
                "remote: Repository not found.\nfatal: repository 'https://h/x/' not found",
                Fault::NotFound,
            ),
            ("fatal: repository 'https://h/x/' not found", Fault::NotFound),
            (
                "fatal: '/srv/x' does not appear to be a git repository\nfatal: Could not read from remote repository.",
                Fault::NotFound,
            ),
            (
                "Host key verification failed.\nfatal: Could not read from remote repository.",
                Fault::HostKey,
            ),
            (
                "fatal: unable to access 'https://h/x/': SSL certificate problem: self-signed certificate",
                Fault::HostKey,
            ),
            (
                "fatal: unable to access 'https://h/x/': SSL: certificate subject name (g) does not match target host name 'h'",
                Fault::HostKey,
            ),
            (
                "fatal: unable to access 'https://h/x/': The requested URL returned error: 301",
                Fault::Redirected,
            ),
            (
                "error: file write error: No space left on device",
                Fault::DiskFull,
            ),
            (
                "error: inflate: data stream error\nfatal: loose object 1f (stored in objects/1f/2) is corrupt",
                Fault::Mirror,
            ),
            ("fatal: bad object refs/jackfield/1", Fault::Mirror),
            (
                "fatal: unable to access 'https://h/x/': Could not resolve host: h",
                Fault::Network,
            ),
            (
                "fatal: unable to access 'https://h/x/': The requested URL returned error: 503",
                Fault::Network,
            ),
            (
                "fatal: unable to access 'https://h/x/': The requested URL returned error: 429",
                Fault::Network,
            ),
            (
                "ssh: connect to host h port 22: Connection timed out",
                Fault::Network,
            ),
            ("fatal: the remote end hung up unexpectedly", Fault::Network),
            ("", Fault::Network),
        ] {
            assert_eq!(Fault::of(message), fault, "{message}");
        }
    }
}
