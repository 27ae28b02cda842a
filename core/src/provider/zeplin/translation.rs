//! From Zeplin's body and headers to the event.

use std::borrow::Cow;

use hyper::HeaderMap;
use jackfield_event::{Actor, Commit, Event, EventId, Project, Resource, Timestamp};

use super::{
    super::{
        TranslateError, Translation, Verified, body, draft,
        lenient::{Text, object},
        outcome::word,
    },
    ATTEMPT, DELIVERY, NAME,
    kinds::{Action, Kind},
};

/// The event's id in the journal is `id`, its source is `source`; all else is in the request.
pub(super) fn translate(
    id: EventId,
    source: &str,
    request: &Verified<'_>,
) -> Result<Translation, TranslateError> {
    let body: Body<'_> = body::read(&request.request().body)?;
    let draft = |kind| draft::event(NAME, id, source, request, kind);
    let words = body
        .event
        .get()
        .and_then(word)
        .zip(body.action.get().and_then(word));
    let mut event = match words {
        Some((event, action)) => {
            let draft = draft(["io.zeplin.", &event, ".", &action].concat());
            body.translate(draft, &Kind::of(&event), action)
        }
        None => {
            let mut event = draft("io.zeplin.unrecognized".into());
            event.data.title = Some("Zeplin sent something unknown".into());
            event
        }
    };
    let headers = &request.request().headers;
    event.providerdelivery = header(headers, DELIVERY).map(str::to_owned);
    event.providerattempt = header(headers, ATTEMPT)
        .and_then(|n| n.parse().ok())
        .filter(|n| *n > 0);
    // Unchanged when Zeplin retries.
    // Zeplin signs the timestamp and the body, and not this: whoever has got hold of a signed request can send it as another
    // for as long as the tolerance lets it pass. Without the id, what happens twice in a second would be told as one.
    let dedup = event.providerdelivery.clone();
    Ok(draft::translation(event, dedup))
}

fn header<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    headers.get(name)?.to_str().ok().filter(|value| !value.is_empty())
}

object! {
    /// The fields that are read.
    Body<'b> {
        event: Text<'b> = "event",
        action: Text<'b> = "action",
        timestamp: Text<'b> = "timestamp",
        resource: Subject<'b> = "resource",
        context: Context<'b> = "context",
        actor: ActorBody<'b> = "actor",
    }
}

object! {
    /// What it happened to. `data` is absent where it is gone; its `type` differs between Zeplin's own
    /// documents, so `event` says what it is.
    Subject<'b> {
        id: Text<'b> = "id",
        data: SubjectData<'b> = "data",
    }
}

object! {
    /// All that the models of Zeplin's resources have in common, so far as it is read.
    SubjectData<'b> {
        id: Text<'b> = "id",
        name: Text<'b> = "name",
        user: User<'b> = "user",
        image: Image<'b> = "image",
        image_url: Text<'b> = "image_url",
        thumbnails: Thumbnails<'b> = "thumbnails",
        thumbnail: Text<'b> = "thumbnail",
        commit: VersionCommit<'b> = "commit",
    }
}

object! {
    Context<'b> {
        project: Named<'b> = "project",
        styleguide: Named<'b> = "styleguide",
        organization: Named<'b> = "organization",
        screen: Screen<'b> = "screen",
        version: Version<'b> = "version",
        note: Named<'b> = "note",
    }
}

object! {
    ActorBody<'b> {
        user: User<'b> = "user",
    }
}

object! {
    User<'b> {
        id: Text<'b> = "id",
        username: Text<'b> = "username",
        avatar: Text<'b> = "avatar",
    }
}

object! {
    Named<'b> {
        id: Text<'b> = "id",
        name: Text<'b> = "name",
    }
}

object! {
    Screen<'b> {
        id: Text<'b> = "id",
        name: Text<'b> = "name",
        image: Image<'b> = "image",
    }
}

object! {
    Version<'b> {
        id: Text<'b> = "id",
        image_url: Text<'b> = "image_url",
        thumbnails: Thumbnails<'b> = "thumbnails",
        commit: VersionCommit<'b> = "commit",
    }
}

object! {
    VersionCommit<'b> {
        message: Text<'b> = "message",
    }
}

object! {
    Image<'b> {
        original: Text<'b> = "original_url",
        thumbnails: Thumbnails<'b> = "thumbnails",
    }
}

object! {
    Thumbnails<'b> {
        large: Text<'b> = "large",
        medium: Text<'b> = "medium",
        small: Text<'b> = "small",
    }
}

impl Body<'_> {
    fn translate(&self, mut event: Box<Event>, kind: &Kind, action: String) -> Box<Event> {
        let id = self.id();
        if let Some(time) = self.time() {
            event.time = time;
        }
        event.subject = id.map(|id| [&kind.resource, "/", id].concat());
        event.data.title = Some(self.title(kind, &action));
        event.data.actor = self.actor.user.actor();
        event.data.project = self.project();
        // A ping is about nothing.
        event.data.resource = (kind.event != "ping").then(|| Resource {
            kind: kind.resource.clone().into_owned(),
            id: id.map(str::to_owned),
            name: self.name(kind).map(str::to_owned),
            version: self.context.version.id.owned(),
            url: self.page(kind, &action),
            ..Resource::default()
        });
        event.data.commit = self.commit();
        event.data.images = self.images();
        event.data.action = Some(action);
        event
    }

    /// Many of the documented examples have the id only in the data; a member's is that of the user.
    fn id(&self) -> Option<&str> {
        let Subject { id, data } = &self.resource;
        id.get().or(data.id.get()).or(data.user.id.get())
    }

    /// When the change happened, as Zeplin says, to the second; this is not when the delivery was sent.
    fn time(&self) -> Option<Timestamp> {
        let text = self.timestamp.get()?;
        let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
        // Of a number with an exponent, what stands before the point is some other time.
        let plain = [seconds, fraction]
            .concat()
            .bytes()
            .all(|byte| byte.is_ascii_digit());
        Timestamp::from_secs(seconds.parse().ok().filter(|_| plain)?)
    }

    /// The name of what it happened to; a version goes by the name of its screen.
    fn name(&self, kind: &Kind) -> Option<&str> {
        let SubjectData { name, user, .. } = &self.resource.data;
        let screen = || {
            self.context
                .screen
                .name
                .get()
                .filter(|_| kind.resource == "screen-version")
        };
        name.get().or(user.username.get()).or_else(screen)
    }

    /// What the resource belongs to.
    fn project(&self) -> Option<Project> {
        let Context {
            project,
            styleguide,
            organization,
            ..
        } = &self.context;
        [
            ("project", project),
            ("styleguide", styleguide),
            ("organization", organization),
        ]
        .into_iter()
        .find(|(_, named)| named.id.get().or(named.name.get()).is_some())
        .map(|(kind, named)| Project {
            kind: kind.into(),
            id: named.id.owned(),
            name: named.name.owned(),
        })
    }

    fn commit(&self) -> Option<Commit> {
        let message = &self.resource.data.commit.message;
        let message = message
            .owned()
            .or_else(|| self.context.version.commit.message.owned())?;
        Some(Commit {
            message: Some(message),
            ..Commit::default()
        })
    }

    /// The pictures of the thing itself; else of its version, else of the screen that it is on.
    fn images(&self) -> Vec<String> {
        let SubjectData {
            image,
            image_url,
            thumbnails,
            thumbnail,
            ..
        } = &self.resource.data;
        let Context { version, screen, .. } = &self.context;
        [
            pictures([image_url, &image.original], &[thumbnails, &image.thumbnails]),
            pictures([&version.image_url, thumbnail], &[&version.thumbnails]),
            pictures(
                [&screen.image.original, &Text::default()],
                &[&screen.image.thumbnails],
            ),
        ]
        .into_iter()
        .find(|pictures| !pictures.is_empty())
        .unwrap_or_default()
    }

    /// The page about it in Zeplin's web app, of the forms that Zeplin's own integrations link to.
    fn page(&self, kind: &Kind, action: &str) -> Option<String> {
        if action == "deleted" {
            return None;
        }
        let Context {
            project,
            screen,
            note,
            ..
        } = &self.context;
        let (project, screen, note) = (id(project.id.get()), id(screen.id.get()), id(note.id.get()));
        let own = id(self.id());
        let page = match &*kind.event {
            "workspace.project" => own?.to_owned(),
            "project.screen" => format!("{}/screen/{}", project?, own?),
            "project.screen.version" => format!("{}/screen/{}", project?, screen?),
            "project.note" => format!("{}/screen/{}?did={}", project?, screen?, own?),
            event if event.starts_with("project.note.") => {
                format!("{}/screen/{}?did={}", project?, screen?, note?)
            }
            _ => return None,
        };
        Some(["https://app.zeplin.io/project/", &page].concat())
    }

    /// "Ada created a version of screen Login in Acme App", or without an actor "A version … was created …".
    fn title(&self, kind: &Kind, action: &str) -> String {
        if kind.event == "ping" {
            return "Zeplin sent a ping".into();
        }
        let action = Action::of(action);
        let label = self.name(kind).or(self.context.screen.name.get());
        let thing = match label {
            Some(name) => Cow::Owned([&kind.named, " ", &*draft::clip(name)].concat()),
            None => Cow::Borrowed(&*kind.bare),
        };
        let mut title = match self.actor.user.username.get() {
            Some(actor) => [&*draft::clip(actor), " ", &action.active, " ", &thing].concat(),
            None => [&*capitalized(&thing), " ", &action.passive].concat(),
        };
        let Context {
            project,
            styleguide,
            organization,
            ..
        } = &self.context;
        let place = project
            .name
            .get()
            .or(styleguide.name.get())
            .or(organization.name.get());
        draft::append(&mut title, &[" ", action.joint, " "].concat(), place);
        title
    }
}

impl User<'_> {
    fn actor(&self) -> Option<Actor> {
        self.id.get().or(self.username.get())?;
        Some(Actor {
            id: self.id.owned(),
            name: self.username.owned(),
            avatar: self.avatar.owned(),
        })
    }
}

/// The whole pictures, then the thumbnails from large to small, each address once.
fn pictures(whole: [&Text<'_>; 2], thumbnails: &[&Thumbnails<'_>]) -> Vec<String> {
    let mut pictures: Vec<String> = Vec::new();
    let small = thumbnails.iter().flat_map(|t| [&t.large, &t.medium, &t.small]);
    for url in whole.into_iter().chain(small).filter_map(Text::get) {
        if !pictures.iter().any(|known| known == url) {
            pictures.push(url.to_owned());
        }
    }
    pictures
}

/// An id that may stand in an address.
fn id(id: Option<&str>) -> Option<&str> {
    id.filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
