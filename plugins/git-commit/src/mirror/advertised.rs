//! What a remote says that it has.

use jackfield_sdk::Error;

use crate::{
    git::{Failure, Git},
    input::Branch,
    remote::Remote,
};

/// What a remote says of one branch, and of its default branch.
#[derive(Debug)]
pub(super) struct Advertised {
    /// The branch that was asked for; where none was, the default branch.
    pub(super) branch: Branch,
    /// Its commit, where there is such a branch.
    pub(super) tip: Option<String>,
    /// The default branch and its commit, where the remote tells both.
    pub(super) head: Option<(Branch, String)>,
}

impl Advertised {
    /// Asks `remote` for `branch`, or for its default branch.
    pub(super) async fn ask(git: &Git, remote: &Remote, branch: Option<&Branch>) -> Result<Self, Failure> {
        let mut patterns = vec!["HEAD".to_owned()];
        patterns.extend(branch.map(Branch::reference));
        let said = ls_remote(git, remote, &patterns).await?;
        Self::read(&said, branch).ok_or_else(|| {
            Failure::Call(Error::fatal(format!(
                "{remote} does not tell its default branch: name one with `branch`"
            )))
        })
    }

    /// Whether `remote`, which said this, has no branch at all.
    pub(super) async fn is_empty(&self, git: &Git, remote: &Remote) -> Result<bool, Failure> {
        Ok(self.head.is_none()
            && ls_remote(git, remote, &["refs/heads/*".to_owned()])
                .await?
                .trim()
                .is_empty())
    }

    /// Reads lines of `value`, tab, `name`; `None` where they name no branch, and neither does `branch`.
    fn read(said: &str, branch: Option<&Branch>) -> Option<Self> {
        let lines = || said.lines().filter_map(|line| line.split_once('\t'));
        // The pattern also fits longer names that end so.
        let value =
            |wanted: &str| lines().find(|(value, name)| *name == wanted && !value.starts_with("ref: "));
        let default = lines()
            .filter(|(_, name)| *name == "HEAD")
            .find_map(|(value, _)| Branch::parse(value.strip_prefix("ref: ")?).ok());
        let head = default.clone().zip(value("HEAD").map(|(sha, _)| sha.to_owned()));
        let tip = match branch {
            Some(branch) => value(&branch.reference()).map(|(sha, _)| sha.to_owned()),
            None => head.as_ref().map(|(_, sha)| sha.clone()),
        };
        Some(Self {
            branch: branch.cloned().or(default)?,
            tip,
            head,
        })
    }
}

async fn ls_remote(git: &Git, remote: &Remote, patterns: &[String]) -> Result<String, Failure> {
    let remote = remote.to_string();
    let mut args = vec!["ls-remote", "--quiet", "--symref", "--end-of-options", &remote];
    args.extend(patterns.iter().map(String::as_str));
    let stdout = git.remote(&args).await?;
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The branch, its commit, and the default branch with its own.
    type Read<'a> = (&'a str, Option<&'a str>, Option<(&'a str, &'a str)>);

    #[track_caller]
    fn check(said: &str, asked: Option<&str>, expected: Option<Read<'_>>) {
        let asked = asked.map(|name| Branch::parse(name).unwrap());
        let read = Advertised::read(said, asked.as_ref());
        let read = read.as_ref().map(|read| {
            let head = read
                .head
                .as_ref()
                .map(|(branch, sha)| (branch.as_str(), sha.as_str()));
            (read.branch.as_str(), read.tip.as_deref(), head)
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn a_branch_is_told_from_others_that_end_so() {
        let said = "ref: refs/heads/main\tHEAD\n1f\tHEAD\n3f\trefs/heads/x/refs/heads/a\n2f\trefs/heads/a\n";
        check(said, Some("a"), Some(("a", Some("2f"), Some(("main", "1f")))));
        check(said, Some("b"), Some(("b", None, Some(("main", "1f")))));
        check(said, None, Some(("main", Some("1f"), Some(("main", "1f")))));
    }

    #[test]
    fn a_remote_may_tell_less() {
        check("", None, None);
        check("", Some("a"), Some(("a", None, None)));
        // A detached HEAD is a commit, but no branch.
        check("1f\tHEAD\n", None, None);
        check(
            "1f\tHEAD\n2f\trefs/heads/a\n",
            Some("a"),
            Some(("a", Some("2f"), None)),
        );
        check("ref: refs/heads/main\tHEAD\n", None, Some(("main", None, None)));
    }
}
