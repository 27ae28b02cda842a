//! Whose code is run: libraries that are locked by their hash, and signed by a key that the configuration names.
//!
//! A [`Candidate`]'s bytes come in with the signature that lies beside it, and go on only if every rule of [`Options`] is
//! kept. Without rules everything goes on that only root or we may have put into the directory. What cannot be checked,
//! for a lock file that is missing or a signature that cannot be read, is refused. Signatures are those of [minisign],
//! made with its present form (`ED`, over a hash); the older one, over the bytes themselves, is not accepted.
//!
//! [minisign]: https://jedisct1.github.io/minisign/

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use minisign_verify::{PublicKey, Signature};

use super::{
    digest::Digest,
    directory::{Candidate, ReadError, UntrustedError, trusted},
    elf::Inspected,
};
use crate::{document::Document, fault::Faults};

/// What a library must be to be trusted.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The file that says which libraries there may be; any where there is none.
    pub lock: Option<PathBuf>,
    /// The keys by one of which a signature must have been made.
    pub keys: Vec<Key>,
    /// Whether a library without a signature is refused.
    pub require_signed: bool,
}

/// A public key, as minisign writes it.
#[derive(Clone)]
pub struct Key(PublicKey);

impl Key {
    /// Reads a key: the second line of a `.pub` file.
    pub fn parse(text: &str) -> Option<Self> {
        PublicKey::from_base64(text).ok().map(Self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").finish_non_exhaustive()
    }
}

/// The rules, and what they refer to.
#[derive(Debug)]
pub(super) struct Trust {
    lock: Option<(PathBuf, Result<Lock, String>)>,
    keys: Vec<Key>,
    require_signed: bool,
}

/// Which libraries there may be, by the names that they call themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock(BTreeMap<String, Digest>);

/// What is known of the origin of a library that may be run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// What whoever signed it says of it, which the signature covers.
    pub(super) signed: Option<String>,
    /// What is unusual.
    pub(super) warning: Option<String>,
}

impl Trust {
    pub(super) fn read(options: &Options) -> Self {
        let lock = options.lock.as_ref().map(|path| {
            let lock = Lock::read(path).map_err(|error| super::reason_of(&error));
            (path.clone(), lock)
        });
        Self {
            lock,
            keys: options.keys.clone(),
            require_signed: options.require_signed,
        }
    }

    /// Checks the signature that lies beside a library, before anybody looks into that.
    pub(super) fn check_signature(
        &self,
        candidate: &Candidate,
        signature: Result<Option<Vec<u8>>, ReadError>,
    ) -> Result<Origin, TrustError> {
        if self.keys.is_empty() && !self.require_signed {
            return Ok(Origin::default());
        }
        let path = candidate.path();
        let Some(signature) = signature? else {
            if self.require_signed {
                return Err(TrustError::Unsigned {
                    path: path.to_owned(),
                });
            }
            let warning = Some("is not signed".to_owned());
            return Ok(Origin {
                signed: None,
                warning,
            });
        };
        let refuse = |why| TrustError::Signature {
            path: path.to_owned(),
            why,
        };
        let text = String::from_utf8(signature).map_err(|_| refuse("it is not one of minisign's"))?;
        let signature = Signature::decode(&text).map_err(|_| refuse("it is not one of minisign's"))?;
        let is_by = |key: &&Key| key.0.verify(candidate.bytes(), &signature, false).is_ok();
        if self.keys.iter().find(is_by).is_none() {
            return Err(refuse(
                "it is of other bytes, or by none of the `keys` in `[plugins]`",
            ));
        }
        let signed = Some(signature.trusted_comment().to_owned());
        Ok(Origin {
            signed,
            warning: None,
        })
    }

    /// Checks that a library is the one that is locked under its name.
    pub(super) fn check_lock(&self, library: &Inspected) -> Result<(), TrustError> {
        let Some((file, lock)) = &self.lock else {
            return Ok(());
        };
        let lock = lock.as_ref().map_err(|error| TrustError::Lock(error.clone()))?;
        let (name, digest) = (library.identity().name.clone(), library.digest());
        match lock.0.get(&name) {
            Some(locked) if *locked == digest => Ok(()),
            locked => Err(Box::new(NotLocked {
                path: library.candidate().path().to_owned(),
                lock: file.clone(),
                locked: locked.copied(),
                name,
                digest,
            })
            .into()),
        }
    }
}

impl Lock {
    /// A lock of these libraries.
    pub fn of(libraries: impl IntoIterator<Item = (String, Digest)>) -> Self {
        Self(libraries.into_iter().collect())
    }

    /// The libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = (&str, Digest)> {
        self.0.iter().map(|(name, digest)| (name.as_str(), *digest))
    }

    /// Reads the lock file at `path`.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, is no lock file, or others may change it or its directory.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let unreadable = |source| LockError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let stat = rustix::fs::fstat(&file).map_err(|error| unreadable(error.into()))?;
        trusted(path, &stat)?;
        Self::check_place(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Ok(Self::parse(&path.display().to_string(), &text)?)
    }

    /// Makes sure that nobody else may put another file in the place of the one at `path`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// Where somebody may, or it cannot be told.
    pub fn check_place(path: &Path) -> Result<(), LockError> {
        let unreadable = |source| LockError::Unreadable {
            path: path.to_owned(),
            source,
        };
        for directory in Self::directories(path).map_err(unreadable)? {
            let stat = rustix::fs::stat(&directory).map_err(|error| unreadable(error.into()))?;
            trusted(&directory, &stat)?;
        }
        Ok(())
    }

    /// Whoever may change these can put another file in the place of the one at `path`: its directory, and where it is a link,
    /// that of the file. A link that leads nowhere is an error: somebody may have taken away what it led to a moment ago.
    pub(super) fn directories(path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut paths = vec![std::path::absolute(path)?];
        match (path.canonicalize(), path.symlink_metadata()) {
            (Ok(file), _) => paths.push(file),
            (Err(_), Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            (Err(error), _) => return Err(error),
        }
        for path in &mut paths {
            path.pop();
        }
        Ok(paths)
    }

    fn parse(file: &str, text: &str) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let document = Document::parse(file, text, &mut faults);
        let mut libraries = BTreeMap::new();
        for item in document.root().entries() {
            let Some(text) = item.string(&mut faults) else {
                continue;
            };
            match text.parse() {
                Ok(digest) => drop(libraries.insert(item.key().to_owned(), digest)),
                Err(error) => faults.push(item.fault(format!("found \"{text}\": {error}"))),
            }
        }
        faults.give(Some(Self(libraries)))
    }
}

impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# The libraries that the router loads: each plugin with its SHA-256. Written by `jackfield plugin lock`."
        )?;
        self.0
            .iter()
            .try_for_each(|(name, digest)| writeln!(f, "{name} = \"{digest}\""))
    }
}

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It cannot be read.
    #[error("the lock file `{}` cannot be read; `jackfield plugin lock` writes it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others may change it, or its directory.
    #[error(transparent)]
    Untrusted(#[from] UntrustedError),
    /// It is no lock file.
    #[error("the lock file is faulty: {0}")]
    Faulty(#[from] Faults),
}

/// A library that is none of those that there may be.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` is plugin `{name}` with SHA-256 {digest}, and `{}` has {}: if it is the one that you mean, \
     `jackfield plugin lock` says so",
    path.display(), lock.display(), locked.map_or("no such plugin".to_owned(), |locked| locked.to_string())
)]
pub struct NotLocked {
    path: PathBuf,
    name: String,
    digest: Digest,
    /// The lock file, and what that has under the name.
    lock: PathBuf,
    locked: Option<Digest>,
}

/// Why a library is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Nothing says which there may be.
    #[error("{0}")]
    Lock(String),
    /// It is none of those that there may be.
    #[error(transparent)]
    NotLocked(#[from] Box<NotLocked>),
    /// It has no signature.
    #[error(
        "`{0}` is not signed, and `require_signed` in `[plugins]` asks for it: put `{0}.minisig` beside it, as \
         `minisign -S -m {0}` makes it",
        path.display()
    )]
    Unsigned {
        /// The file.
        path: PathBuf,
    },
    /// Its signature does not hold.
    #[error("`{0}.minisig` is no signature of `{0}` that counts: {why}", path.display())]
    Signature {
        /// The library.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// Its signature was not read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use minisign::KeyPair;

    use super::*;
    use crate::plugin::reason_of;

    fn pair() -> (KeyPair, Key) {
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let key = Key::parse(&pair.pk.to_base64()).unwrap();
        (pair, key)
    }

    fn sign(pair: &KeyPair, bytes: &[u8]) -> Vec<u8> {
        let signed = minisign::sign(None, &pair.sk, bytes, Some("built by hand"), None);
        signed.unwrap().into_string().into_bytes()
    }

    fn trust(keys: Vec<Key>, require_signed: bool) -> Trust {
        Trust::read(&Options {
            lock: None,
            keys,
            require_signed,
        })
    }

    fn refused(trust: &Trust, signature: Option<Vec<u8>>) -> String {
        let candidate = Candidate::example(b"some code");
        reason_of(&trust.check_signature(&candidate, Ok(signature)).unwrap_err())
    }

    #[test]
    fn a_signature_by_one_of_the_keys_over_these_bytes_is_what_counts() {
        let ((ours, key), (_, other), (strange, _)) = (pair(), pair(), pair());
        let trust = trust(vec![other, key], true);
        let origin = trust
            .check_signature(
                &Candidate::example(b"some code"),
                Ok(Some(sign(&ours, b"some code"))),
            )
            .unwrap();
        assert_eq!(origin.signed.as_deref(), Some("built by hand"));
        let no_signature =
            "`/plugins/example.so.minisig` is no signature of `/plugins/example.so` that counts";
        for (signature, why) in [
            (sign(&strange, b"some code"), "by none of the `keys`"),
            (sign(&ours, b"other code"), "it is of other bytes"),
            (b"hello".to_vec(), "it is not one of minisign's"),
            (vec![0xff; 8], "it is not one of minisign's"),
            (Vec::new(), "it is not one of minisign's"),
        ] {
            let reason = refused(&trust, Some(signature));
            assert!(reason.contains(no_signature) && reason.contains(why), "{reason}");
        }
    }

    #[test]
    fn no_signature_is_refused_where_one_is_required_and_otherwise_unusual() {
        let (_, key) = pair();
        insta::assert_snapshot!(refused(&trust(vec![key.clone()], true), None), @"`/plugins/example.so` is not signed, and `require_signed` in `[plugins]` asks for it: put `/plugins/example.so.minisig` beside it, as `minisign -S -m /plugins/example.so` makes it");
        let origin = |trust: Trust| {
            trust
                .check_signature(&Candidate::example(b"some code"), Ok(None))
                .unwrap()
        };
        assert_eq!(
            origin(trust(vec![key], false)).warning.as_deref(),
            Some("is not signed")
        );
        assert_eq!(origin(trust(Vec::new(), false)), Origin::default());
    }

    #[test]
    fn a_signature_that_cannot_be_read_is_refused_also_where_none_is_required() {
        let (_, key) = pair();
        let error = ReadError::TooLarge {
            path: "/plugins/example.so.minisig".into(),
            limit: 4096,
        };
        let checked = trust(vec![key], false).check_signature(&Candidate::example(b"some code"), Err(error));
        assert!(matches!(checked, Err(TrustError::Read(_))));
    }

    #[test]
    fn a_lock_counts_where_nobody_else_can_put_another_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let [real, links] = ["real", "links"].map(|name| directory.path().join(name));
        fs::create_dir(&real).unwrap();
        fs::create_dir(&links).unwrap();
        fs::write(real.join("plugins.lock"), Lock::default().to_string()).unwrap();
        fs::set_permissions(real.join("plugins.lock"), fs::Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink("../real/plugins.lock", links.join("plugins.lock")).unwrap();
        let allow = |directory: &Path, mode| {
            fs::set_permissions(directory, fs::Permissions::from_mode(mode)).unwrap();
        };
        let read = |by: &Path| {
            let read = Lock::read(&by.join("plugins.lock"));
            read.map_err(|error| reason_of(&error).replace(directory.path().to_str().unwrap(), ""))
        };
        for (file, link) in [(0o755, 0o755), (0o775, 0o755), (0o755, 0o775)] {
            allow(&real, file);
            allow(&links, link);
            assert_eq!(read(&real).is_ok(), file == 0o755, "{file:o}");
            assert_eq!(
                read(&links).is_ok(),
                file == 0o755 && link == 0o755,
                "{file:o} {link:o}"
            );
        }
        insta::assert_snapshot!(read(&links).unwrap_err(), @"`/links` has mode 0775: others than its owner may change it, and so run code in this process: chmod go-w '/links'");

        // Before there is one, its place counts; and a link that leads nowhere is none.
        let place = |by: &Path| Lock::check_place(&by.join("plugins.lock")).is_ok();
        allow(&links, 0o755);
        fs::remove_file(real.join("plugins.lock")).unwrap();
        assert!(place(&real) && !place(&links));
        allow(&real, 0o775);
        assert!(!place(&real));
    }

    #[test]
    fn a_lock_lets_through_what_it_names_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugins.lock");
        let (good, other) = (
            Inspected::example("hello", b"good"),
            Inspected::example("hello", b"other"),
        );
        let check = |library: &Inspected| {
            let trust = Trust::read(&Options {
                lock: Some(path.clone()),
                ..Options::default()
            });
            let checked = trust.check_lock(library);
            checked.map_err(|error| reason_of(&error).replace(directory.path().to_str().unwrap(), ""))
        };
        insta::assert_snapshot!(check(&good).unwrap_err(), @"the lock file `/plugins.lock` cannot be read; `jackfield plugin lock` writes it: No such file or directory (os error 2)");
        let lock = Lock::of([("hello".to_owned(), good.digest())]);
        fs::write(&path, lock.to_string()).unwrap();
        let allow = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        allow(0o664);
        insta::assert_snapshot!(check(&good).unwrap_err(), @"`/plugins.lock` has mode 0664: others than its owner may change it, and so run code in this process: chmod go-w '/plugins.lock'");
        allow(0o644);
        assert_eq!(Lock::read(&path).unwrap(), lock);
        check(&good).unwrap();
        insta::assert_snapshot!(check(&other).unwrap_err(), @"`/plugins/example.so` is plugin `hello` with SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa, and `/plugins.lock` has 770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c: if it is the one that you mean, `jackfield plugin lock` says so");
        insta::assert_snapshot!(check(&Inspected::example("hallo", b"good")).unwrap_err(), @"`/plugins/example.so` is plugin `hallo` with SHA-256 770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c, and `/plugins.lock` has no such plugin: if it is the one that you mean, `jackfield plugin lock` says so");
        fs::write(&path, "hello = 7\nother = \"abc\"\n[").unwrap();
        insta::assert_snapshot!(check(&good).unwrap_err(), @r#"
the lock file is faulty: /plugins.lock:1:9: `hello`: found a whole number, expected a string
  1 | hello = 7
    |         ^
/plugins.lock:2:9: `other`: found "abc": a digest has 64 hexadecimal digits
  2 | other = "abc"
    |         ^^^^^
/plugins.lock:3:2: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
  3 | [
    |  ^: /plugins.lock:1:9: `hello`: found a whole number, expected a string
  1 | hello = 7
    |         ^
/plugins.lock:2:9: `other`: found "abc": a digest has 64 hexadecimal digits
  2 | other = "abc"
    |         ^^^^^
/plugins.lock:3:2: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`
  3 | [
    |  ^
"#);
    }

    #[test]
    fn only_a_key_of_minisigns_is_a_key() {
        assert!(Key::parse("RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3").is_some());
        for wrong in [
            "",
            "hello",
            "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO",
        ] {
            assert!(Key::parse(wrong).is_none(), "{wrong}");
        }
    }
}
