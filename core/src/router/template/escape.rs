//! Escaping of values, so that they stay text where the text around them is markup.
//!
//! A value is escaped as it is put in ([`Escape::part`]), and the text as it is whole ([`Escape::settle`]): what some characters do
//! depends on where they came to stand. Within the `<…>` of an author, from whose beginning Slack tells an address from a mention, and
//! from which it takes the label after a `|`, they are percent-encoded as in an address; elsewhere they are letters like others.

use std::borrow::Cow;

/// How values are escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::router) enum Escape {
    /// Not at all.
    #[default]
    None,
    /// For Slack's `mrkdwn`: no value makes a link, changes where one leads to or what it is called, or mentions anybody. What Slack
    /// has no escape for (`*bold*`, `_italic_`, `~struck~`, `` `code` ``, `:emoji:`) disguises nothing and is left.
    /// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
    Mrkdwn,
    /// For Slack's `markdown` blocks, which speak another language: nor does a value make emphasis, code, a heading, a table or a
    /// picture. Lists are left to it, since `-` and `.` are in every address and number.
    /// <https://docs.slack.dev/reference/block-kit/blocks/markdown-block>
    Markdown,
}

impl Escape {
    /// The escape that a schema asks for; `None` for one that is not known.
    pub(in crate::router) fn named(name: &str) -> Option<Self> {
        [Self::None, Self::Mrkdwn, Self::Markdown]
            .into_iter()
            .find(|escape| escape.name() == name)
    }

    /// What a schema calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mrkdwn => "mrkdwn",
            Self::Markdown => "markdown",
        }
    }

    /// A value as text that nothing stands around.
    pub(in crate::router) fn whole(self, value: &str) -> String {
        self.settle(self.part(value).into_owned())
    }

    /// A value as a part of a text that is settled when it is whole.
    pub(super) fn part(self, value: &str) -> Cow<'_, str> {
        if value.chars().all(|character| self.stand_in(character).is_none()) {
            return value.into();
        }
        let mut text = String::with_capacity(value.len());
        for character in value.chars() {
            match self.stand_in(character) {
                Some(stand_in) => text.push_str(stand_in),
                None => text.push(character),
            }
        }
        text.into()
    }

    /// The text, with every value in it, as it goes out.
    pub(super) fn settle(self, text: String) -> String {
        if self == Self::None || !text.contains(UNSETTLED.map(|(stand_in, ..)| stand_in)) {
            return text;
        }
        let mut settled = String::with_capacity(text.len());
        let mut in_address = false;
        for character in text.chars() {
            match character {
                // Those of values have been escaped: these are the author's.
                '<' => in_address = true,
                '>' | '|' | '\n' => in_address = false,
                _ => {}
            }
            let unsettled = UNSETTLED.iter().find(|(stand_in, ..)| *stand_in == character);
            match unsettled {
                Some((_, letter, code)) if in_address && (*letter == '|' || settled.ends_with('<')) => {
                    settled.push_str(code);
                }
                Some((_, letter, _)) => settled.push(*letter),
                None => settled.push(character),
            }
        }
        settled
    }

    /// What is written for a character of a value; `None` for itself.
    fn stand_in(self, character: char) -> Option<&'static str> {
        Some(match (self, character) {
            (Self::Mrkdwn | Self::Markdown, '&') => "&amp;",
            (Self::Mrkdwn | Self::Markdown, '<') => "&lt;",
            (Self::Mrkdwn | Self::Markdown, '>') => "&gt;",
            (Self::Mrkdwn | Self::Markdown, '!') => "\u{FDD1}",
            (Self::Mrkdwn | Self::Markdown, '@') => "\u{FDD2}",
            (Self::Mrkdwn, '|') => "\u{FDD0}",
            (Self::Mrkdwn, '#') => "\u{FDD3}",
            // A value that brings one itself would have it settled into a letter that is not escaped.
            (Self::Mrkdwn | Self::Markdown, '\u{FDD0}'..='\u{FDD3}') => "\u{FFFD}",
            (Self::Markdown, '\\') => r"\\",
            (Self::Markdown, '`') => r"\`",
            (Self::Markdown, '*') => r"\*",
            (Self::Markdown, '_') => r"\_",
            (Self::Markdown, '~') => r"\~",
            (Self::Markdown, '[') => r"\[",
            (Self::Markdown, ']') => r"\]",
            (Self::Markdown, '|') => r"\|",
            (Self::Markdown, '#') => r"\#",
            (Self::None | Self::Mrkdwn | Self::Markdown, _) => return None,
        })
    }
}

/// What is written for a letter of a value until it is settled what it does: a "noncharacter", which no value is let bring; the letter; and
/// the letter in an address.
const UNSETTLED: [(char, char, &str); 4] = [
    ('\u{FDD0}', '|', "%7C"),
    ('\u{FDD1}', '!', "%21"),
    ('\u{FDD2}', '@', "%40"),
    ('\u{FDD3}', '#', "%23"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The text `before`, a value and the text `after` it.
    #[track_caller]
    fn check(escape: Escape, [before, value, after]: [&str; 3], expected: &str) {
        let text = [before, &escape.part(value), after].concat();
        assert_eq!(
            escape.settle(text),
            expected,
            "{escape:?}: {before}{value}{after}"
        );
    }

    #[test]
    fn a_value_is_no_link_and_no_mention_in_mrkdwn() {
        for (value, expected) in [
            ("Fish & chips", "Fish &amp; chips"),
            ("<!channel> <@U1>", "&lt;!channel&gt; &lt;@U1&gt;"),
            ("<https://evil.example|Acme>", "&lt;https://evil.example|Acme&gt;"),
            ("a | b, #1 @c!", "a | b, #1 @c!"),
            // Slack has no escape for these.
            ("*b* _i_ ~s~ `c` :art:", "*b* _i_ ~s~ `c` :art:"),
        ] {
            check(Escape::Mrkdwn, ["", value, ""], expected);
            check(
                Escape::Mrkdwn,
                ["> ", value, " <https://x|y>"],
                &format!("> {expected} <https://x|y>"),
            );
            assert_eq!(Escape::Mrkdwn.whole(value), expected);
        }
    }

    #[test]
    fn an_address_in_a_link_of_the_author_brings_no_label_and_no_mention() {
        for escape in [Escape::Mrkdwn, Escape::Markdown] {
            check(escape, ["<", "https://x/@a!", ">"], "<https://x/@a!>");
            check(escape, ["<", "!channel", "|see>"], "<%21channel|see>");
            check(escape, ["<", "@U0123", ">"], "<%40U0123>");
        }
        let check = |parts, expected| check(Escape::Mrkdwn, parts, expected);
        check(
            ["<", "https://evil|Acme portal", "|see>"],
            "<https://evil%7CAcme portal|see>",
        );
        check(
            ["<https://acme/", "x|Acme portal", ">"],
            "<https://acme/x%7CAcme portal>",
        );
        check(["<", "#C0123|general", ">"], "<%23C0123%7Cgeneral>");
        check(["<", "https://x/#a", ">"], "<https://x/#a>");
        check(["<https://x|", "a | b", "> c | d"], "<https://x|a | b> c | d");
        check(["<https://x> ", "!a | @b", ""], "<https://x> !a | @b");
        check(["1 < 2\n", "a | b", ""], "1 < 2\na | b");
    }

    #[test]
    fn a_value_is_text_in_markdown() {
        for (value, expected) in [
            (
                "[Reset password](https://evil.example)",
                r"\[Reset password\](https://evil.example)",
            ),
            (
                "![x](https://evil.example/x.png)",
                r"!\[x\](https://evil.example/x.png)",
            ),
            ("[x]: https://evil.example", r"\[x\]: https://evil.example"),
            (
                "<https://evil.example> <!channel>",
                "&lt;https://evil.example&gt; &lt;!channel&gt;",
            ),
            (r"\[x](https://evil.example)", r"\\\[x\](https://evil.example)"),
            ("**b** _i_ ~~s~~ `c`", r"\*\*b\*\* \_i\_ \~\~s\~\~ \`c\`"),
            ("# h\n| a |\n```", "\\# h\n\\| a \\|\n\\`\\`\\`"),
            ("v1.2-rc (3) & more!", "v1.2-rc (3) &amp; more!"),
        ] {
            check(Escape::Markdown, ["", value, ""], expected);
            assert_eq!(Escape::Markdown.whole(value), expected);
        }
    }

    #[test]
    fn a_value_that_brings_what_stands_in_for_a_letter_does_not_get_the_letter() {
        for escape in [Escape::Mrkdwn, Escape::Markdown] {
            for brought in UNSETTLED.map(|(stand_in, ..)| stand_in.to_string()) {
                check(escape, ["<", &brought, "> a "], "<\u{FFFD}> a ");
                assert_eq!(escape.whole(&brought), "\u{FFFD}");
            }
        }
    }

    #[test]
    fn what_is_not_marked_is_not_touched() {
        let value = "<!channel> & \\ ` * _ ~ [ ] | # @ \u{FDD0}";
        check(Escape::None, ["<", value, ">"], &format!("<{value}>"));
        assert_eq!(Escape::None.whole(value), value);
    }
}
