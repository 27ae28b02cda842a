//! Supernova: an exporter's run has ended, and its result can be fetched.
//!
//! Supernova signs nothing and sends no delivery id. Two shapes of the body are documented, and both are read:
//! the present one, whose result lies at `job.s3.url` behind a personal access token, and that of 2021, whose
//! `job.urls` are themselves signed. The artifact tells them apart: the former asks for the credential
//! `supernova`, the latter for none.
//!
//! An event's type is `io.supernova.job.` and the outcome of the run: `success`, `failure` (Supernova says
//! `Failure` and `Failed`), `running`, `timeout`, or another status in lower case.

use std::{collections::HashSet, sync::Arc};

use jackfield_event::{Artifact, Commit, Event, EventId, Project, Resource};

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
        [
            "job.success",
            "job.failure",
            "job.running",
            "job.timeout",
            "unrecognized",
        ]
        .map(|kind| format!("io.supernova.{kind}"))
        .into()
    },
    build: |options| {
        Arc::new(Supernova {
            path_token: options.path_token,
        })
    },
    sign: |options: &Options, _, _, _| sending::unsigned(options),
};

const NAME: &str = "supernova";

#[derive(Debug)]
struct Supernova {
    path_token: Option<Secret>,
}

impl Provider for Supernova {
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
        Ok(match body.job.status.get().and_then(outcome) {
            Some(outcome) => body.translate(draft(format!("io.supernova.job.{outcome}")), &outcome),
            None => {
                let mut event = draft("io.supernova.unrecognized".into());
                event.data.title = Some("Supernova sent something unknown".into());
                draft::translation(event, None)
            }
        })
    }
}

object! {
    /// The fields that are read, of either shape.
    Body<'b> {
        event: Text<'b> = "event",
        workspace: Named<'b> = "workspace",
        design_system: Named<'b> = "designSystem",
        version: Named<'b> = "designSystemVersion",
        exporter: Named<'b> = "exporter",
        job: Job<'b> = "job",
    }
}

object! {
    Named<'b> {
        id: Text<'b> = "id",
        name: Text<'b> = "name",
        version: Text<'b> = "version",
    }
}

object! {
    Job<'b> {
        id: Text<'b> = "id",
        status: Text<'b> = "status",
        s3: Storage<'b> = "s3",
        urls: List<Text<'b>> = "urls",
        github: PullRequest<'b> = "github",
        gitlab: PullRequest<'b> = "gitlab",
        bitbucket: PullRequest<'b> = "bitbucket",
        azure: PullRequest<'b> = "azure",
        documentation: Documentation<'b> = "documentation",
        sndocs: Documentation<'b> = "sndocs",
    }
}

object! {
    Storage<'b> {
        url: Text<'b> = "url",
        urls: List<Text<'b>> = "urls",
    }
}

object! {
    /// Where else the result went. Supernova's API model has it; whether its webhook does is not documented.
    PullRequest<'b> {
        url: Text<'b> = "pullRequestUrl",
    }
}

object! {
    /// The published documentation, for an exporter that makes some.
    Documentation<'b> {
        url: Text<'b> = "url",
    }
}

impl Body<'_> {
    fn translate(&self, mut event: Box<Event>, outcome: &str) -> Translation {
        let Self {
            design_system,
            version,
            job,
            ..
        } = self;
        event.subject = job.id.get().map(|id| format!("job/{id}"));
        event.data.action = self
            .event
            .get()
            .and_then(|event| event.rsplit(':').next())
            .and_then(word);
        event.data.title = Some(self.title(outcome));
        event.data.project = (design_system.id.get().or(design_system.name.get())).map(|_| Project {
            kind: "design-system".into(),
            id: design_system.id.owned(),
            name: design_system.name.owned(),
        });
        event.data.resource = Some(Resource {
            kind: "job".into(),
            id: job.id.owned(),
            version: version.version.owned().or_else(|| version.name.owned()),
            url: job.documentation.url.owned().or_else(|| job.sndocs.url.owned()),
            ..Resource::default()
        });
        event.data.commit = job.pull_request().map(|url| Commit {
            url: Some(url.to_owned()),
            ..Commit::default()
        });
        event.data.artifacts = job.artifacts();
        event.data.outcome = Some(outcome.to_owned());
        draft::translation(event, self.dedup())
    }

    fn title(&self, outcome: &str) -> String {
        let exporter = self.exporter.name.get().unwrap_or("Supernova export");
        let mut title = format!("{} {}", draft::clip(exporter), phrase(outcome));
        if let Some(design_system) = self.design_system.name.get() {
            draft::append(&mut title, " for ", Some(design_system));
            draft::append(&mut title, " ", self.version.version.get());
        }
        title
    }

    /// The job is unique in its workspace, and is told of once for each status.
    fn dedup(&self) -> Option<String> {
        let (job, status) = (self.job.id.get()?, self.job.status.get().and_then(word)?);
        Some(match self.workspace.id.get() {
            Some(workspace) => format!("{workspace}/{job}:{status}"),
            None => format!("{job}:{status}"),
        })
    }
}

impl Job<'_> {
    /// What the run made: the present shape first, each address once.
    ///
    /// Where `s3.url` is empty, as in the documented sample, there is nothing to be fetched. Of the address the documentation has
    /// `{wId}/jobs/{jobId}/result`, and not the host before it: one that is put together here would be a guess, to which the
    /// credential `supernova` is sent. A rule can put it together for itself, of `data.payload.workspace.id` and `data.resource.id`.
    fn artifacts(&self) -> Vec<Artifact> {
        let stored = std::iter::once(&self.s3.url)
            .chain(&self.s3.urls.0)
            .map(|url| (url, Some(NAME)));
        let signed = self.urls.0.iter().map(|url| (url, None));
        let mut seen = HashSet::new();
        stored
            .chain(signed)
            .filter_map(|(url, auth)| Some((url.get()?, auth)))
            .filter(|(url, _)| seen.insert(*url))
            .take(draft::MAX_ARTIFACTS)
            .map(|(url, auth)| Artifact {
                name: Some(draft::file_name(url).unwrap_or("result.zip").to_owned()),
                url: url.to_owned(),
                media_type: Some("application/zip".into()),
                auth: auth.map(str::to_owned),
                ..Artifact::default()
            })
            .collect()
    }

    fn pull_request(&self) -> Option<&str> {
        [&self.github, &self.gitlab, &self.bitbucket, &self.azure]
            .into_iter()
            .find_map(|host| host.url.get())
    }
}
