//! Escaping of values, so that they stay text where the text around them is markup.

use std::borrow::Cow;

/// How values are escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::router) enum Escape {
    /// Not at all.
    #[default]
    None,
    /// As Slack asks for in its `mrkdwn`: `&`, `<` and `>`, so that no value makes a link or mentions anybody.
    Mrkdwn,
}

impl Escape {
    /// The escape that a schema asks for; `None` for one that is not known.
    pub(in crate::router) fn named(name: &str) -> Option<Self> {
        match name {
            "none" => Some(Self::None),
            "mrkdwn" => Some(Self::Mrkdwn),
            _ => None,
        }
    }

    /// `text` as text.
    pub(in crate::router) fn apply(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Mrkdwn if text.contains(['&', '<', '>']) => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .into(),
            Self::None | Self::Mrkdwn => text.into(),
        }
    }
}
