//! Ionic Appflow: a build has ended, and its files can be fetched for 24 hours.
//!
//! Appflow signs nothing and sends no delivery id. Native builds ("package"), web builds and builds that no
//! automation started have bodies of one family, with parts left out; what is there is read.
//!
//! An event's type is `io.ionic.appflow.`, the kind of build, and the outcome: `package.success`,
//! `web.failure`. Appflow writes a state as `success` or `SUCCESS`, `FAILED` or `error`, `canceled` or
//! `CANCELLED`; the outcome is one word for each, so that a rule needs only one. So is the type of a build (`debug`, `release`), the
//! key of which nobody knows how to spell: it is the resource's variant.

use std::{borrow::Cow, collections::HashSet, sync::Arc, time::Duration};

use jackfield_event::{Actor, Artifact, Commit, Event, EventId, Project, Resource, Timestamp};

use super::{
    Options, Provider, Request, TranslateError, Translation, Verified, VerifyError, body, draft,
    lenient::{List, Text, object},
    options::Adapter,
    outcome::{outcome, phrase, word},
    proof, sending,
};
use crate::secret::Secret;

pub(super) const ADAPTER: Adapter = Adapter {
    name: NAME,
    signs: false,
    types: || {
        let outcomes = ["pending", "running", "success", "failure", "canceled"];
        let kinds = ["package", "web"].map(|build| outcomes.map(|outcome| format!("{build}.{outcome}")));
        let kinds = kinds.into_iter().flatten().chain(["unrecognized".into()]);
        kinds.map(|kind| format!("io.ionic.appflow.{kind}")).collect()
    },
    build: |options| {
        Arc::new(Appflow {
            path_token: options.path_token,
        })
    },
    sign: |options: &Options, _, _, _| sending::unsigned(options),
};

const NAME: &str = "appflow";

/// How long a signed address of a build works, by Appflow's documentation.
const ADDRESS_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
struct Appflow {
    path_token: Option<Secret>,
}

impl Provider for Appflow {
    fn admit(&self, token: Option<&Secret>) -> Result<(), VerifyError> {
        proof::check_path_token(self.path_token.as_ref(), token)
    }

    fn verify<'r>(&self, request: &'r Request) -> Result<Verified<'r>, VerifyError> {
        proof::verify_unsigned(self.path_token.as_ref(), request)
    }

    fn translate(
        &self,
        id: EventId,
        source: &str,
        request: &Verified<'_>,
    ) -> Result<Translation, TranslateError> {
        let body: Body<'_> = body::read(&request.request().body)?;
        let draft = |kind| draft::event(NAME, id, source, request, kind);
        Ok(match body.state().and_then(outcome) {
            Some(outcome) => {
                let build = body.build_kind();
                let draft = draft(["io.ionic.appflow.", &build, ".", &outcome].concat());
                body.translate(draft, &build, &outcome)
            }
            None => {
                let mut event = draft("io.ionic.appflow.unrecognized".into());
                event.data.title = Some("Appflow sent something unknown".into());
                draft::translation(event, None)
            }
        })
    }
}

object! {
    /// The fields that are read.
    Body<'b> {
        id: Text<'b> = "id",
        state: Text<'b> = "state",
        finished: Text<'b> = "finished",
        build: BuildInfo<'b> = "buildInfo",
        build_type: Text<'b> = "type",
        platform: Text<'b> = "platform",
        automation: Automation<'b> = "automation",
        app_id: Text<'b> = "appId",
        app: App<'b> = "app",
        commit: CommitBody<'b> = "commit",
        download: Text<'b> = "downloadUrl",
        artifacts: List<ArtifactBody<'b>> = "artifacts",
    }
}

object! {
    BuildInfo<'b> {
        state: Text<'b> = "state",
        job_type: Text<'b> = "job_type",
    }
}

object! {
    /// Absent where a person started the build.
    Automation<'b> {
        name: Text<'b> = "name",
        platform: Text<'b> = "platform",
        // Spelled so in every edition of the documentation; what is sent may well be the other.
        buid_type: Text<'b> = "buidType",
        build_type: Text<'b> = "buildType",
        channel: Channel<'b> = "channel",
        creator_id: Text<'b> = "creatorId",
        creator: User<'b> = "creator",
    }
}

object! {
    Channel<'b> {
        name: Text<'b> = "name",
    }
}

object! {
    App<'b> {
        id: Text<'b> = "id",
        name: Text<'b> = "name",
    }
}

object! {
    CommitBody<'b> {
        sha: Text<'b> = "sha",
        note: Text<'b> = "note",
        reference: Text<'b> = "ref",
        user_id: Text<'b> = "userId",
        user: User<'b> = "user",
    }
}

object! {
    User<'b> {
        name: Text<'b> = "name",
        username: Text<'b> = "username",
        picture: Text<'b> = "picture",
    }
}

object! {
    ArtifactBody<'b> {
        name: Text<'b> = "name",
        url: Text<'b> = "url",
        kind: Text<'b> = "artifactType",
    }
}

impl Body<'_> {
    fn translate(&self, mut event: Box<Event>, build: &str, outcome: &str) -> Translation {
        let received = event.time;
        // The documentation has a date that is none, so a date that cannot be read is as good as absent.
        event.time = self
            .finished
            .get()
            .and_then(|time| time.parse().ok())
            .unwrap_or(received);
        event.subject = self.id.get().map(|id| ["build/", id].concat());
        event.data.title = Some(self.title(build, outcome));
        event.data.actor = self.actor();
        event.data.project = (self.app_id().or(self.app.name.get())).map(|_| Project {
            kind: "app".into(),
            id: self.app_id().map(str::to_owned),
            name: self.app.name.owned(),
        });
        event.data.resource = Some(Resource {
            kind: "build".into(),
            id: self.id.owned(),
            name: self.automation.name.owned(),
            variant: self.build_type().and_then(word),
            ..Resource::default()
        });
        event.data.commit = self.commit();
        event.data.artifacts = self.artifacts(event.time.saturating_add(ADDRESS_LIFE));
        event.data.outcome = Some(outcome.to_owned());
        draft::translation(event, self.dedup())
    }

    fn state(&self) -> Option<&str> {
        self.state.get().or(self.build.state.get())
    }

    fn app_id(&self) -> Option<&str> {
        self.app_id.get().or(self.app.id.get())
    }

    fn platform(&self) -> Option<&str> {
        let job = || self.build.job_type.get()?.strip_prefix("package-");
        self.platform
            .get()
            .or(self.automation.platform.get())
            .or_else(job)
    }

    /// `debug`, `release`, …
    fn build_type(&self) -> Option<&str> {
        let Automation {
            build_type,
            buid_type,
            ..
        } = &self.automation;
        self.build_type.get().or(build_type.get()).or(buid_type.get())
    }

    /// `package` or `web`; a kind of job that nobody has heard of keeps its name.
    fn build_kind(&self) -> Cow<'static, str> {
        let native =
            || self.platform().is_some() || self.download.get().is_some() || !self.artifacts.0.is_empty();
        match self.build.job_type.get().and_then(word) {
            Some(job) if job.starts_with("package") => "package".into(),
            Some(job) if job == "snapshot" || job.starts_with("web") => "web".into(),
            Some(job) => job.into(),
            None if native() => "package".into(),
            None if self.automation.channel.name.get().is_some() => "web".into(),
            None => "build".into(),
        }
    }

    /// "Android debug build of Awesome App finished on different-branch".
    fn title(&self, build: &str, outcome: &str) -> String {
        let mut title = match (build, self.platform().map(str::to_lowercase).as_deref()) {
            ("package", Some("android")) => "Android".to_owned(),
            ("package", Some("ios")) => "iOS".to_owned(),
            ("package", Some(platform)) => draft::clip(platform).into_owned(),
            ("package", None) => "Native".to_owned(),
            ("web", _) => "Web".to_owned(),
            _ => "Appflow".to_owned(),
        };
        draft::append(&mut title, " ", self.build_type().filter(|_| build == "package"));
        title.push_str(" build");
        draft::append(&mut title, " of ", self.app.name.get());
        title.push(' ');
        title.push_str(&phrase(outcome));
        draft::append(&mut title, " on ", self.commit.reference.get());
        title
    }

    /// Whose commit was built; where that is not said, whose automation built it.
    fn actor(&self) -> Option<Actor> {
        let CommitBody { user, user_id, .. } = &self.commit;
        let Automation {
            creator, creator_id, ..
        } = &self.automation;
        user.actor(user_id).or_else(|| creator.actor(creator_id))
    }

    fn commit(&self) -> Option<Commit> {
        let CommitBody {
            sha, note, reference, ..
        } = &self.commit;
        sha.get().or(note.get()).or(reference.get())?;
        Some(Commit {
            sha: sha.owned(),
            reference: reference.owned(),
            message: note.owned(),
            url: None,
        })
    }

    /// The build's own address, as every edition of the documentation has it; then its files by name, as the
    /// latest has them.
    fn artifacts(&self, expires: Timestamp) -> Vec<Artifact> {
        let listed = self
            .artifacts
            .0
            .iter()
            .map(|file| (&file.url, file.name.get(), file.kind.get()));
        let mut seen = HashSet::new();
        std::iter::once((&self.download, None, None))
            .chain(listed)
            .filter_map(|(url, name, kind)| Some((url.get()?, name, kind)))
            .filter(|(url, ..)| seen.insert(*url))
            .take(draft::MAX_ARTIFACTS)
            .map(|(url, name, kind)| Artifact {
                name: name.or_else(|| draft::file_name(url)).map(str::to_owned),
                url: url.to_owned(),
                media_type: kind.and_then(media_type).map(str::to_owned),
                expires: Some(expires),
                // The address is itself signed.
                auth: None,
            })
            .collect()
    }

    /// A build is told of once for each state. Builds of two kinds are two, whatever their ids: those in the documentation have
    /// the same.
    fn dedup(&self) -> Option<String> {
        let (id, state) = (self.id.get()?, word(self.state()?)?);
        Some(format!("{id}:{}:{state}", self.build_kind()))
    }
}

impl User<'_> {
    fn actor(&self, id: &Text<'_>) -> Option<Actor> {
        id.get().or(self.name.get()).or(self.username.get())?;
        Some(Actor {
            id: id.owned(),
            name: self.name.owned().or_else(|| self.username.owned()),
            avatar: self.picture.owned(),
        })
    }
}

/// The registered media type of a kind of artifact, where it has one.
fn media_type(kind: &str) -> Option<&'static str> {
    kind.eq_ignore_ascii_case("APK")
        .then_some("application/vnd.android.package-archive")
}
