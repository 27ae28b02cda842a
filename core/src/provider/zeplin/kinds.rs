//! What Zeplin can tell of: all of its events and actions, and how people speak of them.
//!
//! The tables are those of Zeplin's own SDK (`@zeplin/sdk` 1.38). They are for words only: an event or an
//! action that is not in them is translated just the same, in Zeplin's words.

use std::borrow::Cow;

/// The events, the resources that they are about, and the actions that each comes with.
#[rustfmt::skip]
pub(super) const KINDS: &[Kind] = &[
    kind("ping", "ping", "ping", "a ping", &["ping"]),

    kind("project.color", "color", "color", "a color", CHANGES),
    kind("project.text_style", "text-style", "text style", "a text style", CHANGES),
    kind("project.spacing_token", "spacing-token", "spacing token", "a spacing token", CHANGES),
    kind("project.component", "component", "component", "a component", VERSIONS),
    kind("project.screen", "screen", "screen", "a screen", CHANGES),
    kind("project.screen.version", "screen-version", "a version of screen", "a version of a screen", CHANGES),
    kind("project.note", "note", "a note on screen", "a note", CHANGES),
    kind("project.note.comment", "comment", "a comment on screen", "a comment", CHANGES),
    kind("project.note.comment.reaction", "reaction", "a reaction on screen", "a reaction", REACTIONS),
    kind("project.member", "member", "member", "a member", MEMBERSHIP),
    kind("project.flow_board", "flow-board", "flow board", "a flow board", &["built"]),

    kind("styleguide.color", "color", "color", "a color", CHANGES),
    kind("styleguide.text_style", "text-style", "text style", "a text style", CHANGES),
    kind("styleguide.spacing_token", "spacing-token", "spacing token", "a spacing token", CHANGES),
    kind("styleguide.component", "component", "component", "a component", VERSIONS),
    kind("styleguide.member", "member", "member", "a member", MEMBERSHIP),

    kind("workspace.project", "project", "project", "a project", LIFE),
    kind("workspace.styleguide", "styleguide", "styleguide", "a styleguide", LIFE),
    kind("workspace.organization", "organization", "organization", "an organization", ORGANIZATION),
    kind("workspace.organization.member", "member", "member", "a member", TAGGED_MEMBERSHIP),
    kind("workspace.notification", "notification", "notification", "a notification", NOTIFICATIONS),
];

const CHANGES: &[&str] = &["created", "updated", "deleted"];
const VERSIONS: &[&str] = &["created", "updated", "deleted", "version_created"];
const REACTIONS: &[&str] = &["created", "deleted"];
const MEMBERSHIP: &[&str] = &["invited", "removed", "role_updated"];
const TAGGED_MEMBERSHIP: &[&str] = &["invited", "removed", "role_updated", "tag_updated"];
const NOTIFICATIONS: &[&str] = &["created", "updated"];
const ORGANIZATION: &[&str] = &["updated", "join_requested"];
#[rustfmt::skip]
const LIFE: &[&str] =
    &["created", "updated", "deleted", "activated", "archived", "styleguide_linked", "styleguide_unlinked"];

/// The actions, said of somebody who acts and of something that it happens to.
#[rustfmt::skip]
const ACTIONS: &[Action] = &[
    action("created", "created", "was created", "in"),
    action("updated", "updated", "was updated", "in"),
    action("deleted", "deleted", "was deleted", "from"),
    action("version_created", "made a new version of", "has a new version", "in"),
    action("built", "built", "was built", "in"),
    action("invited", "invited", "was invited", "to"),
    action("removed", "removed", "was removed", "from"),
    action("role_updated", "changed the role of", "has a new role", "in"),
    action("tag_updated", "changed the tags of", "has new tags", "in"),
    action("activated", "activated", "was activated", "in"),
    action("archived", "archived", "was archived", "in"),
    action("styleguide_linked", "linked a styleguide to", "was linked to a styleguide", "in"),
    action("styleguide_unlinked", "unlinked a styleguide from", "was unlinked from a styleguide", "in"),
    action("join_requested", "asked to join", "was asked to be joined", "in"),
    action("ping", "sent", "arrived", "from"),
];

/// An event, and how its resource is called.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) event: Cow<'static, str>,
    /// `data.resource.kind`.
    pub(super) resource: Cow<'static, str>,
    /// What stands before its name: "color".
    pub(super) named: Cow<'static, str>,
    /// What stands in place of its name: "a color".
    pub(super) bare: Cow<'static, str>,
    pub(super) actions: &'static [&'static str],
}

/// An action in words.
#[derive(Clone, Debug)]
pub(super) struct Action {
    name: &'static str,
    /// After the actor, before the resource.
    pub(super) active: Cow<'static, str>,
    /// After the resource, where no actor is known.
    pub(super) passive: Cow<'static, str>,
    /// Before the project that it happened in.
    pub(super) joint: &'static str,
}

const fn kind(
    event: &'static str,
    resource: &'static str,
    named: &'static str,
    bare: &'static str,
    actions: &'static [&'static str],
) -> Kind {
    Kind {
        event: Cow::Borrowed(event),
        resource: Cow::Borrowed(resource),
        named: Cow::Borrowed(named),
        bare: Cow::Borrowed(bare),
        actions,
    }
}

const fn action(
    name: &'static str,
    active: &'static str,
    passive: &'static str,
    joint: &'static str,
) -> Action {
    Action {
        name,
        active: Cow::Borrowed(active),
        passive: Cow::Borrowed(passive),
        joint,
    }
}

impl Kind {
    /// The kind of `event`; for one that is not in the table, what its last word says.
    pub(super) fn of(event: &str) -> Cow<'static, Self> {
        if let Some(kind) = KINDS.iter().find(|kind| kind.event == event) {
            return Cow::Borrowed(kind);
        }
        let last = event.rsplit('.').find(|word| !word.is_empty()).unwrap_or(event);
        let words = last.replace(['_', '-'], " ");
        Cow::Owned(Self {
            event: event.to_owned().into(),
            resource: last.replace('_', "-").into(),
            bare: format!("a {words}").into(),
            named: words.into(),
            actions: &[],
        })
    }
}

impl Action {
    /// The words for `action`; one that is not in the table is taken for a participle, as nearly all are.
    pub(super) fn of(action: &str) -> Cow<'static, Self> {
        if let Some(action) = ACTIONS.iter().find(|known| known.name == action) {
            return Cow::Borrowed(action);
        }
        let words = action.replace('_', " ");
        Cow::Owned(Self {
            name: "",
            passive: format!("was {words}").into(),
            active: words.into(),
            joint: "in",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_of_every_kind_has_words_and_there_are_seventy() {
        let mut pairs = 0;
        for kind in KINDS {
            for action in kind.actions {
                assert_eq!(Action::of(action).name, *action, "{}", kind.event);
                pairs += 1;
            }
        }
        assert_eq!(pairs, 70);
    }
}
