//! From what a rule calls a channel to the id that reading it wants.
//!
//! `chat.postMessage` takes names, `conversations.history` does not. An id is its own, and a person's leads to one conversation for
//! ever. A name may have been given to another channel since: what it leads to today, the list of channels tells; what it led to
//! when it was last posted to, the answer to that post did, which is kept.

use jackfield_sdk::{Cx, Error, Result, tracing};

use super::{
    Bot,
    look::{next_cursor, of_look},
};
use crate::{api::Failure, receipt::Posted};

impl Bot {
    /// The id that `channel` led to when it was last posted to.
    pub(super) async fn kept_id(&self, channel: &str, cx: &Cx) -> Result<Option<String>> {
        let kept = cx.kv().get(&kept_under(channel)).await?;
        Ok(kept.and_then(|id| String::from_utf8(id).ok()))
    }

    /// The id that `channel`, which is none itself, leads to today.
    pub(super) async fn id_today(&self, channel: &str) -> Result<String> {
        if is_person_id(channel) {
            let arguments = serde_json::json!({ "users": channel });
            let opened = self
                .api
                .post("conversations.open", &arguments)
                .await
                .map_err(of_look)?;
            let id = opened.pointer("/channel/id").and_then(|id| id.as_str());
            return id
                .map(str::to_owned)
                .ok_or_else(|| Error::retry("conversations.open told no id"));
        }
        match self.listed(channel, "public_channel,private_channel").await {
            // Without the scope for private channels, the public ones may still be read.
            Err(Failure::Refused { error, .. }) if error == "missing_scope" => self.listed(channel, "public_channel").await,
            found => found,
        }
        .map_err(of_look)?
        .ok_or_else(|| {
            Error::ambiguous(format_args!(
                "an earlier attempt may have posted, and `{channel}`, which is to be searched for it, is not among the \
                 channels that the app can see; name the channel by its id"
            ))
        })
    }

    /// The id of the channel of that name, by the list of all channels.
    async fn listed(&self, channel: &str, types: &str) -> Result<Option<String>, Failure> {
        let name = channel.trim_start_matches('#');
        let mut cursor = String::new();
        for _ in 0..MAX_PAGES {
            let mut arguments = vec![("types", types), ("limit", "1000"), ("exclude_archived", "true")];
            if !cursor.is_empty() {
                arguments.push(("cursor", &cursor));
            }
            let page = self.api.get("conversations.list", &arguments).await?;
            let mut channels = page["channels"].as_array().into_iter().flatten();
            if let Some(found) = channels.find(|channel| channel["name"] == name) {
                return Ok(found["id"].as_str().map(str::to_owned));
            }
            match next_cursor(&page) {
                Some(next) => cursor = next,
                None => break,
            }
        }
        Ok(None)
    }

    /// Keeps the id that Slack told for a name. The message is posted and recorded: no failure here may undo that.
    pub(super) async fn remember(&self, channel: &str, posted: &Posted, cx: &Cx) {
        let Some(id) = posted
            .channel
            .as_deref()
            .filter(|id| *id != channel && !is_channel_id(channel))
        else {
            return;
        };
        if matches!(self.kept_id(channel, cx).await, Ok(Some(kept)) if kept == id) {
            return;
        }
        if let Err(error) = cx.kv().put(&kept_under(channel), id).await {
            tracing::warn!(channel, error = %error, "channel id not kept");
        }
    }
}

fn kept_under(channel: &str) -> String {
    format!("channel-id/{channel}")
}

/// Channels, private channels and direct messages.
pub(super) fn is_channel_id(text: &str) -> bool {
    is_id(text, &['C', 'G', 'D'])
}

pub(super) fn is_person_id(text: &str) -> bool {
    is_id(text, &['U', 'W'])
}

fn is_id(text: &str, initials: &[char]) -> bool {
    text.starts_with(initials)
        && text.len() >= 9
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// Pages of up to 1,000 channels.
const MAX_PAGES: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_names() {
        for (text, channel, person) in [
            ("C0123ABCD", true, false),
            ("G012345678", true, false),
            ("D0123ABCDEF", true, false),
            ("U0123ABCD", false, true),
            ("W0123ABCD", false, true),
            ("#design-system", false, false),
            ("design-system", false, false),
            ("C01", false, false),
            ("Cdesign012", false, false),
            ("", false, false),
        ] {
            assert_eq!(
                (is_channel_id(text), is_person_id(text)),
                (channel, person),
                "{text}"
            );
        }
    }
}
